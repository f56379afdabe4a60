//! Starting the parts, and waiting for them with a deadline and their last words.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::layout::Layout;
use crate::procs::{MARK, Proc};

/// How often something is asked that cannot be waited for.
const PAUSE: Duration = Duration::from_millis(150);
/// How much of a log goes into an error.
const TAIL_LINES: usize = 15;
const TAIL_BYTES: u64 = 8 << 10;

/// Asks until there is an answer; none within the limit.
pub(crate) fn poll<T>(
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits for a child on a thread, so that its end leaves no zombie as long as we run.
pub(crate) fn reap_later(mut child: Child) {
    std::thread::spawn(move || {
        // The part's end is seen elsewhere, by its id.
        let _ = child.wait();
    });
}

/// The last lines of a part's log.
pub(crate) fn tail_of(layout: &Layout, part: &str) -> String {
    let path = layout.log(part);
    let text = tail(&path).unwrap_or_else(|error| error.to_string());
    format!("{part} said last ({}):\n{text}", path.display())
}

fn tail(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}

/// The parts that were started.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    layout: &'a Layout,
    started: Vec<Proc>,
}

impl<'a> Parts<'a> {
    pub fn new(layout: &'a Layout) -> Self {
        Self {
            layout,
            started: Vec::new(),
        }
    }

    pub fn started(&self) -> &[Proc] {
        &self.started
    }

    /// Starts a part that outlives this process, in the cluster's folder of sockets, its output in
    /// its log.
    ///
    /// `entrance` enters namespaces and runs what follows it; none for the present ones.
    pub fn start(
        &mut self,
        part: &str,
        entrance: Option<&Command>,
        program: &Path,
        arguments: &[String],
        path: &str,
    ) -> Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.layout.log(part))?;
        let mut command = Command::new("setsid");
        if let Some(entrance) = entrance {
            command
                .arg(entrance.get_program())
                .args(entrance.get_args());
        }
        let child = command
            // Entering a mount namespace leads to its root.
            .arg("env")
            .arg(format!("--chdir={}", self.layout.at("run").display()))
            .arg(program)
            .args(arguments)
            // Only what a part is told: no kubeconfig and no proxy of the person's own.
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.layout.at("run"))
            .env(MARK, self.layout.state())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {part}"))?;
        let found = Proc::find(part, child.id());
        reap_later(child);
        self.started
            .push(found.with_context(|| format!("{part} ended at once"))?);
        Ok(())
    }

    /// Fails if any part has ended: none of them should.
    pub fn check(&self) -> Result<()> {
        match self.started.iter().find(|part| !part.is_alive()) {
            None => Ok(()),
            Some(ended) => bail!("{} has ended; {}", ended.name, self.tail(&ended.name)),
        }
    }

    /// Waits until `ask` says yes. What is said on failure names the part and its last words.
    pub fn wait(
        &self,
        what: &str,
        part: &str,
        limit: Duration,
        mut ask: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        poll(limit, || {
            self.check()?;
            Ok(ask()?.then_some(()))
        })?
        .with_context(|| {
            format!(
                "{what}: not within {} s; {}",
                limit.as_secs(),
                self.tail(part)
            )
        })
    }

    fn tail(&self, part: &str) -> String {
        tail_of(self.layout, part)
    }
}

/// Whether a line of a part's log holds this text.
pub(crate) fn log_says(layout: &Layout, part: &str, text: &str) -> bool {
    fs::read_to_string(layout.log(part)).is_ok_and(|log| log.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dir: &Path) -> Layout {
        let layout = Layout::below(dir.to_owned(), &"a".parse().unwrap());
        layout.create().unwrap();
        layout
    }

    fn start(parts: &mut Parts<'_>, script: &str) {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let path = std::env::var("PATH").unwrap();
        parts
            .start("part", None, Path::new("/bin/sh"), &arguments, &path)
            .unwrap();
    }

    #[test]
    fn a_part_that_ends_is_an_error_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let mut parts = Parts::new(&layout);
        start(&mut parts, "echo no such flag >&2; exit 1");
        let error = parts
            .wait("ready", "part", Duration::from_secs(20), || Ok(false))
            .unwrap_err()
            .to_string();
        assert!(error.contains("part has ended"), "{error}");
        assert!(error.contains("no such flag"), "{error}");
    }

    #[test]
    fn a_part_that_is_never_ready_is_given_up_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let mut parts = Parts::new(&layout);
        start(
            &mut parts,
            "for i in $(seq 40); do echo line $i; done; exec sleep 60",
        );
        parts
            .wait("talks", "part", Duration::from_secs(20), || {
                Ok(log_says(&layout, "part", "line 40"))
            })
            .unwrap();
        let error = parts
            .wait("ready", "part", Duration::ZERO, || Ok(false))
            .unwrap_err()
            .to_string();
        assert!(error.contains("ready: not within 0 s"), "{error}");
        assert!(
            error.contains("line 40") && !error.contains("line 25"),
            "{error}"
        );
        crate::procs::end(parts.started()[0].pid);
        let ended = poll(Duration::from_secs(20), || Ok(parts.check().err())).unwrap();
        assert!(ended.is_some());
    }
}
