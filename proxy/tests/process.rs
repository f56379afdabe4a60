//! The program: its errors, its signals, what becomes of Envoy.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use common::{DEADLINE, IDENTITY, directory, envoy_binary};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_postern-proxy");

/// A port that takes connections and says nothing on them.
fn control_plane() -> &'static str {
    static PORT: OnceLock<(TcpListener, String)> = OnceLock::new();
    let (_, address) = PORT.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    });
    address
}

fn arguments(root: &Path, envoy: &Path) -> Vec<String> {
    let state = root.join("state");
    let tls = root.join("tls");
    [
        ("--xds", control_plane()),
        ("--identity", IDENTITY),
        ("--tls-dir", tls.to_str().unwrap()),
        ("--state-dir", state.to_str().unwrap()),
        ("--readiness-address", "127.0.0.1:0"),
        ("--metrics-address", "127.0.0.1:0"),
        ("--concurrency", "1"),
        ("--envoy", envoy.to_str().unwrap()),
        ("--envoy-log-level", "info"),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value.to_owned()])
    .collect()
}

/// A running program, and what its log said when Envoy was started.
struct Running {
    child: Child,
    log: mpsc::Receiver<String>,
    envoy: i32,
    readiness: SocketAddr,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .env_clear()
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody may listen any more; the pipe must be read all the same.
                let _ = sender.send(line);
            }
        });
        let (envoy, readiness) = loop {
            let line = log.recv_timeout(DEADLINE).unwrap();
            let value = as_json(&line);
            if value["message"] == "Envoy started" {
                let pid = value["pid"].as_i64().unwrap();
                let readiness = value["readiness"].as_str().unwrap().parse().unwrap();
                break (i32::try_from(pid).unwrap(), readiness);
            }
        };
        Self {
            child,
            log,
            envoy,
            readiness,
        }
    }

    fn run(root: &Path, envoy: &Path) -> Self {
        common::some_tls(&root.join("tls"));
        let mut command = Command::new(PROGRAM);
        command.arg("run").args(arguments(root, envoy));
        Self::start(command)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a line of Envoy's own log, so that it has become Envoy.
    fn wait_for_envoy(&self) {
        loop {
            let line = self.log.recv_timeout(DEADLINE).unwrap();
            let target = as_json(&line)["target"].as_str().map(str::to_owned);
            if target.is_some_and(|t| t.starts_with("envoy::")) {
                return;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn as_json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| unreachable!("no JSON: {line:?}: {e}"))
}

/// Gone, or ended and not yet waited for by whoever inherited it.
fn has_ended(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn errors_are_one_line_and_an_exit_code() {
    let root = directory();
    common::some_tls(&root.path().join("tls"));
    let program = Path::new(PROGRAM);
    let run = |arguments: &[String]| {
        let output = Command::new(PROGRAM)
            .env_clear()
            .arg("run")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("postern-proxy: "), "{said}");
        (output.status.code().unwrap(), said)
    };
    let changed = |name: &str, value: &str| {
        let mut all = arguments(root.path(), program);
        let at = all.iter().position(|a| a == name).unwrap();
        all[at + 1] = value.to_owned();
        all
    };
    for (arguments, code, says) in [
        (vec![], 2, "--xds <HOST:PORT>"),
        (changed("--identity", "x"), 2, "must be spiffe://"),
        (changed("--xds", "x"), 2, "must be HOST:PORT"),
        (changed("--concurrency", "0"), 2, "--concurrency"),
        (
            changed("--tls-dir", "/nowhere"),
            1,
            "/nowhere/tls.crt: cannot be read",
        ),
        (
            changed("--envoy", "/nowhere/envoy"),
            1,
            "/nowhere/envoy: cannot be started",
        ),
        (changed("--envoy", "/etc/passwd"), 1, "no executable file"),
        (
            changed("--state-dir", "/proc/x"),
            1,
            "/proc/x: cannot create",
        ),
        (
            changed("--readiness-address", "192.0.2.1:80"),
            1,
            "for readiness",
        ),
        (
            changed("--metrics-address", "192.0.2.1:80"),
            1,
            "for metrics",
        ),
    ] {
        let (actual, said) = run(&arguments);
        assert_eq!(actual, code, "{said}");
        assert!(said.contains(says), "{said}");
    }
    std::fs::write(root.path().join("tls/tls.key"), "").unwrap();
    let (code, said) = run(&arguments(root.path(), program));
    assert_eq!(code, 1);
    assert!(
        said.contains("tls/tls.key: cannot be read: it is empty"),
        "{said}"
    );
}

#[tokio::test]
async fn it_is_not_ready_without_a_control_plane_and_ends_when_told() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let mut running = Running::run(root.path(), &envoy);
    running.wait_for_envoy();
    assert_eq!(common::get(running.readiness, "/ready").await.0, 503);
    assert!(!has_ended(running.envoy));
    kill(running.pid(), Signal::SIGTERM).unwrap();
    // Never ready, so nobody is to be drained.
    assert_eq!(running.wait().code(), Some(0));
    assert!(has_ended(running.envoy));
    // Every line, ours and Envoy's, is one JSON object.
    for line in &running.log {
        as_json(&line);
    }
}

/// Before the control plane's port answers there is no Envoy, so none counts failures.
#[test]
fn envoy_waits_for_the_control_plane() {
    let root = directory();
    common::some_tls(&root.path().join("tls"));
    let script = root.path().join("envoy");
    std::fs::write(&script, "#!/bin/sh\nexit 42\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut all = arguments(root.path(), &script);
    let at = all.iter().position(|a| a == "--xds").unwrap();
    all[at + 1] = address.to_string();
    let waiting = || {
        let mut child = Command::new(PROGRAM)
            .env_clear()
            .arg("run")
            .args(&all)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = log.next().unwrap().unwrap();
        assert_eq!(as_json(&line)["message"], "waiting for the control plane");
        (child, log)
    };

    let (mut child, _log) = waiting();
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let (mut child, _log) = waiting();
    assert!(child.try_wait().unwrap().is_none());
    let _listener = TcpListener::bind(address).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(42));
}

#[test]
fn a_killed_supervisor_takes_envoy_with_it() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let mut running = Running::run(root.path(), &envoy);
    running.wait_for_envoy();
    assert!(!has_ended(running.envoy));
    kill(running.pid(), Signal::SIGKILL).unwrap();
    running.wait();
    wait_until("Envoy's end", || has_ended(running.envoy));
}

#[test]
fn when_envoy_dies_so_does_the_supervisor_with_its_status() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let mut running = Running::run(root.path(), &envoy);
    running.wait_for_envoy();
    kill(Pid::from_raw(running.envoy), Signal::SIGKILL).unwrap();
    assert_eq!(running.wait().code(), Some(128 + 9));
}

#[test]
fn the_status_of_an_envoy_that_ends_by_itself_is_passed_on() {
    let root = directory();
    let script = root.path().join("envoy");
    std::fs::write(&script, "#!/bin/sh\nexit 42\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    let mut running = Running::run(root.path(), &script);
    assert_eq!(running.wait().code(), Some(42));
}

/// A shell that starts it and is killed: as a terminal that is closed, or a driver that crashes.
#[test]
fn it_ends_with_its_parent_when_asked_to() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    common::some_tls(&root.path().join("tls"));
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(r#"program=$1; shift; "$program" run --end-with-parent $$ "$@"; exit 1"#)
        .arg("sh")
        .arg(PROGRAM)
        .args(arguments(root.path(), &envoy));
    let mut running = Running::start(command);
    running.wait_for_envoy();
    assert!(!has_ended(running.envoy));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    wait_until("Envoy's end", || has_ended(running.envoy));

    let output = Command::new(PROGRAM)
        .args(["run", "--end-with-parent", "1"])
        .args(arguments(root.path(), &envoy))
        .output()
        .unwrap();
    // Where the test itself is a child of process 1, that is the parent.
    if std::os::unix::process::parent_id() != 1 {
        assert_eq!(output.status.code(), Some(1));
    }
}

/// In a PID namespace of its own it is process 1, and gets the orphans of those who enter.
#[test]
fn as_process_1_it_reaps_strangers_and_hears_sigterm() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    common::some_tls(&root.path().join("tls"));
    let unshare = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
    ];
    let possible = Command::new("unshare")
        .args(unshare)
        .arg("true")
        .status()
        .is_ok_and(|s| s.success());
    if !possible {
        println!("not run: no PID namespace of our own");
        return;
    }
    let mut command = Command::new("/usr/bin/env");
    command
        .args(["PATH=/usr/bin:/bin:/usr/sbin:/sbin", "unshare"])
        .args(unshare)
        .arg(PROGRAM)
        .arg("run")
        .args(arguments(root.path(), &envoy));
    let mut running = Running::start(command);
    running.wait_for_envoy();
    // `env` became `unshare`, whose only child is process 1 inside.
    let init = *children(running.pid().as_raw()).first().unwrap();
    let inside = children(init);
    assert_eq!(inside.len(), 1, "Envoy alone");

    // A shell enters and leaves an orphan behind, which then ends.
    let entered = Command::new("nsenter")
        .args(["--user", "--preserve-credentials", "--pid", "--target"])
        .arg(init.to_string())
        .args(["sh", "-c", "sleep 600 & exit 0"])
        .status()
        .unwrap();
    assert!(entered.success());
    wait_until("an orphan", || children(init).len() == 2);
    for orphan in children(init) {
        if !inside.contains(&orphan) {
            kill(Pid::from_raw(orphan), Signal::SIGKILL).unwrap();
        }
    }
    wait_until("its end", || children(init) == inside);

    kill(Pid::from_raw(init), Signal::SIGTERM).unwrap();
    assert_eq!(running.wait().code(), Some(0));
}

/// Children of a process, by its outer number; zombies too.
fn children(pid: i32) -> Vec<i32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|candidate: &i32| {
            std::fs::read_to_string(format!("/proc/{candidate}/stat"))
                .ok()
                .and_then(|stat| {
                    let (_, rest) = stat.rsplit_once(") ")?;
                    rest.split_whitespace().nth(1)?.parse().ok()
                })
                == Some(pid)
        })
        .collect()
}
