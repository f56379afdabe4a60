//! Hold-off: several changes at once are looked at together.

use std::time::{Duration, Instant};

/// Waits until changes stop for a while, but never longer than a bound from the first of them.
/// It has no clock: time is a parameter.
#[derive(Clone, Debug)]
pub struct Debounce {
    hold: Duration,
    greatest: Duration,
    /// When the first and the last change came that are not taken yet.
    pending: Option<(Instant, Instant)>,
}

impl Debounce {
    /// Waits for `hold` without a change, and `greatest` at most.
    #[must_use]
    pub fn new(hold: Duration, greatest: Duration) -> Debounce {
        Debounce {
            hold,
            greatest,
            pending: None,
        }
    }

    /// Something changed.
    pub fn touch(&mut self, now: Instant) {
        let first = self.pending.map_or(now, |(first, _)| first);
        self.pending = Some((first, now));
    }

    /// When the changes are to be taken; `None` if there are none.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.pending?;
        Some((last + self.hold).min(first + self.greatest))
    }

    /// Takes the changes if they are due, and says whether they were.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            self.pending = None;
        }
        due
    }

    /// Waits until changes are due, and takes them; for ever if there are none. May be dropped at
    /// any time without losing a change.
    pub async fn settled(&mut self) {
        let Some(due) = self.due() else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(due.into()).await;
        self.pending = None;
    }
}

impl Default for Debounce {
    /// 20 ms, and 500 ms at most.
    fn default() -> Self {
        Debounce::new(Duration::from_millis(20), Duration::from_millis(500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn one_change_waits_for_the_hold_off() {
        let start = Instant::now();
        let mut debounce = Debounce::new(millis(20), millis(500));
        assert_eq!(debounce.due(), None);
        assert!(!debounce.take(start));
        debounce.touch(start);
        assert_eq!(debounce.due(), Some(start + millis(20)));
        assert!(!debounce.take(start + millis(19)));
        assert!(debounce.take(start + millis(20)));
        assert!(!debounce.take(start + millis(40)));
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn changes_without_end_wait_for_the_greatest_hold_off() {
        let start = Instant::now();
        let mut debounce = Debounce::new(millis(20), millis(500));
        let mut taken = vec![];
        for tick in 0..150 {
            let now = start + millis(tick * 10);
            if debounce.take(now) {
                taken.push(tick * 10);
            }
            debounce.touch(now);
        }
        assert_eq!(taken, [500, 1000]);
    }

    #[tokio::test]
    async fn the_driver_ends_after_the_hold_off_and_not_before() {
        let mut debounce = Debounce::new(millis(20), millis(500));
        let start = Instant::now();
        debounce.touch(start);
        debounce.settled().await;
        assert!(start.elapsed() >= millis(20));
        assert_eq!(debounce.due(), None);
        let never = tokio::time::timeout(millis(50), debounce.settled()).await;
        assert!(never.is_err());
    }
}
