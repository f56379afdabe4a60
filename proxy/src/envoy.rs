//! The Envoy process: found, started, ended.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// The release of Envoy that this is made for.
pub const VERSION: &str = "1.40.0";

/// The hidden subcommand of `postern-proxy` that becomes Envoy; see [`Launch::Tethered`].
pub const TETHER: &str = "exec-envoy";

/// Form of log lines, ours and Envoy's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// spdlog's form. `%j` escapes a message for JSON, `%_` only its line ends: whatever a
    /// message quotes, it stays one line.
    fn envoy(self) -> &'static str {
        match self {
            Self::Json => {
                r#"{"timestamp":"%Y-%m-%dT%T.%e%z","level":"%l","target":"envoy::%n","message":"%j"}"#
            }
            Self::Text => "%Y-%m-%dT%T.%e%z %l envoy::%n: %_",
        }
    }
}

/// How verbose Envoy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EnvoyLogLevel {
    /// Everything.
    Trace,
    /// Nearly everything.
    Debug,
    /// Starts, stops, each configuration.
    Info,
    /// What may be wrong.
    #[default]
    Warning,
    /// What is wrong.
    Error,
}

impl EnvoyLogLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// How Envoy is tied to this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Launch {
    /// Started as it is. It ends with its [`Envoy`], but outlives a parent that is killed.
    #[default]
    Direct,
    /// Started through the named `postern-proxy`, which asks the kernel to kill it when its parent
    /// ends, in whatever way, and then becomes Envoy. (Asking between `fork` and `exec` would take
    /// unsafe code.) The kernel's "parent" is the *thread* that started it.
    Tethered(PathBuf),
}

/// What Envoy is started with.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// The binary.
    pub binary: &'a Path,
    /// The bootstrap file.
    pub bootstrap: &'a Path,
    /// Worker threads.
    pub concurrency: u32,
    /// Over how long a drain spreads its `Connection: close`.
    pub drain: Duration,
    /// Form of its log.
    pub log_format: LogFormat,
    /// Amount of its log.
    pub log_level: EnvoyLogLevel,
    /// How it is tied to us.
    pub launch: &'a Launch,
}

impl Start<'_> {
    fn arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["-c".into(), self.bootstrap.into()];
        for (name, value) in [
            ("--concurrency", self.concurrency.to_string()),
            // Envoy takes no zero.
            ("--drain-time-s", self.drain.as_secs().max(1).to_string()),
            ("--log-level", self.log_level.name().to_owned()),
            ("--log-format", self.log_format.envoy().to_owned()),
        ] {
            all.push(name.into());
            all.push(value.into());
        }
        all.push("--disable-hot-restart".into());
        all
    }

    fn command(&self) -> Command {
        let arguments = self.arguments();
        match self.launch {
            Launch::Direct => {
                let mut command = Command::new(self.binary);
                command.args(arguments);
                command
            }
            Launch::Tethered(program) => {
                let mut command = Command::new(program);
                command
                    .arg(TETHER)
                    .arg(std::process::id().to_string())
                    .arg(self.binary)
                    .args(arguments);
                command
            }
        }
    }
}

/// A running Envoy. Killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    pid: Pid,
}

impl Envoy {
    /// Starts it. Its standard output and error are ours.
    ///
    /// # Errors
    ///
    /// Where it cannot be executed.
    pub fn start(start: &Start<'_>) -> io::Result<Self> {
        let child = start
            .command()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            // A terminal's Ctrl-C goes to the group in front: Envoy must not hear it before us.
            .process_group(0)
            .spawn()?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw)
            .ok_or_else(|| io::Error::other("no process id"))?;
        Ok(Self { child, pid })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end. May be called again after it was cancelled.
    ///
    /// # Errors
    ///
    /// Where the kernel knows no such child.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends it.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, which: Signal) {
        // Only while it is not waited for: its number could be another's afterwards.
        if self.child.id().is_some()
            && let Err(error) = kill(self.pid, which)
        {
            tracing::debug!(%error, signal = which.as_str(), "not delivered");
        }
    }
}

/// The exit code that stands for `status`, as shells have it: 128 and the signal's number.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|s| 128 + s))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Ties this process to its parent: the kernel sends `with` when the parent ends. `false` where the
/// parent `expected` is gone already.
///
/// # Errors
///
/// Where the kernel refuses.
pub fn tie_to_parent(expected: u32, with: Signal) -> io::Result<bool> {
    nix::sys::prctl::set_pdeathsig(with)?;
    Ok(std::os::unix::process::parent_id() == expected)
}

/// Becomes `program`, tied to the parent: it gets SIGKILL when the process `parent` ends. Comes
/// back only where that fails.
pub fn become_tethered(parent: u32, program: &OsStr, arguments: &[OsString]) -> io::Error {
    match tie_to_parent(parent, Signal::SIGKILL) {
        Err(error) => error,
        Ok(false) => io::Error::other("the supervisor has ended"),
        Ok(true) => std::process::Command::new(program).args(arguments).exec(),
    }
}

/// As process 1: waits for children that others left to us, and leaves Envoy's status to
/// [`Envoy::ended`]. Never comes back.
///
/// # Errors
///
/// Where signals cannot be listened to.
pub async fn reap_strangers(envoy: Pid) -> io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    loop {
        // Before the first wait too: some may have ended already.
        while let Some(pid) = ended_child() {
            if pid == envoy {
                break;
            }
            if waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
                break;
            }
            tracing::debug!(pid = pid.as_raw(), "reaped");
        }
        if children.recv().await.is_none() {
            return Ok(());
        }
    }
}

/// A child that has ended, still to be waited for.
fn ended_child() -> Option<Pid> {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::All, look) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => Some(pid),
        _ => None,
    }
}

/// Whether `path` is a program.
///
/// # Errors
///
/// Where it is absent, no file, or not executable.
pub fn check(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path)?;
    if meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(io::Error::other("it is no executable file"))
    }
}

/// Where Envoy is, when nobody says: the cache directory that the development tools fill, then
/// `PATH`.
pub fn find() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    let cache = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")));
    let cached = cache.map(|c| c.join("postern/envoy").join(VERSION).join("envoy"));
    let path = variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|directory| directory.join("envoy"));
    cached.into_iter().chain(on_path).find(|f| check(f).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start<'a>(binary: &'a Path, launch: &'a Launch) -> Start<'a> {
        Start {
            binary,
            bootstrap: Path::new("/state/bootstrap.json"),
            concurrency: 2,
            drain: Duration::from_millis(10),
            log_format: LogFormat::Json,
            log_level: EnvoyLogLevel::Warning,
            launch,
        }
    }

    #[test]
    fn arguments_are_fixed_but_for_numbers_and_the_file() {
        let arguments = start(Path::new("envoy"), &Launch::Direct).arguments();
        let arguments: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
        assert_eq!(
            arguments,
            [
                "-c",
                "/state/bootstrap.json",
                "--concurrency",
                "2",
                "--drain-time-s",
                "1",
                "--log-level",
                "warning",
                "--log-format",
                r#"{"timestamp":"%Y-%m-%dT%T.%e%z","level":"%l","target":"envoy::%n","message":"%j"}"#,
                "--disable-hot-restart",
            ]
        );
    }

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }

    #[tokio::test]
    async fn a_process_ends_when_asked_and_its_status_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("envoy");
        std::fs::write(&script, "#!/bin/sh\nexec sleep 600\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&script, mode).unwrap();

        let mut envoy = Envoy::start(&start(&script, &Launch::Direct)).unwrap();
        envoy.terminate();
        assert_eq!(exit_code(envoy.ended().await.unwrap()), 128 + 15);
        // No signal goes to whoever has its number now.
        envoy.kill();
        assert_eq!(exit_code(envoy.ended().await.unwrap()), 128 + 15);
    }

    #[test]
    fn a_program_is_a_file_that_may_be_executed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("envoy");
        std::fs::write(&file, "").unwrap();
        assert!(check(&file).is_err());
        assert!(check(directory.path()).is_err());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&file, mode).unwrap();
        check(&file).unwrap();
    }
}
