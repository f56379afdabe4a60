//! What the driver says while it works: one line a stage on standard error, with the time.

use std::time::{Duration, Instant};

/// Tells a person what happens.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    quiet: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        Self {
            started: Instant::now(),
            quiet,
        }
    }

    /// A line without a time: what is going to happen.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    /// A stage is reached.
    pub fn stage(&self, line: &str) {
        self.say(&format!("[{}] {line}", clock(self.started.elapsed())));
    }
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:5.1} s")
    } else {
        let whole = elapsed.as_secs();
        format!("{:2}:{:02} m", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_aligned() {
        assert_eq!(clock(Duration::from_millis(1234)), "  1.2 s");
        assert_eq!(clock(Duration::from_secs(61)), " 1:01 m");
        assert_eq!(clock(Duration::from_secs(660)), "11:00 m");
    }
}
