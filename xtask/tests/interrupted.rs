//! `make try` that is told to end: it asks its children to, which can hear it, and leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A field of `/proc/PID/status`.
fn field(pid: &str, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn children(parent: u32) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|pid| field(pid, "PPid").is_some_and(|of| of == parent.to_string()))
        .collect()
}

#[test]
fn children_can_be_asked_to_end_and_nothing_is_left() {
    if let Err(error) = postern_e2e::tools::envoy() {
        println!("not run: `make try` that is interrupted: {error:#}");
        return;
    }
    let mut running = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("try")
        .current_dir(postern_e2e::tools::repository())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(running.stdout.take().unwrap()).lines();
    let mut told = lines.map_while(Result::ok);
    assert!(told.any(|line| line.contains("Ctrl-C ends everything")));
    let started = children(running.id());
    assert!(started.len() >= 6, "backends, control plane, two proxies");
    for pid in &started {
        // A program that inherits a blocked SIGTERM ends only when it is killed.
        assert_eq!(field(pid, "SigBlk").unwrap(), "0000000000000000");
    }
    let state = std::env::temp_dir().join(format!("postern-try-{}", running.id()));
    assert!(state.exists());

    kill(
        Pid::from_raw(i32::try_from(running.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    // Read on, so that it is not ended by a closed pipe.
    told.for_each(drop);
    assert!(running.wait().unwrap().success());
    assert!(!state.exists(), "{}", state.display());
    for pid in started {
        assert_eq!(field(&pid, "PPid"), None, "{pid} still runs");
    }
}
