//! `make run` by somebody who may not: one line that says so, and what to do instead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Debian's `nobody`; any number but 0 would do.
const NOBODY: u32 = 65_534;

#[test]
fn without_root_make_run_says_so_in_a_line_and_names_make_try() {
    if Command::new("make").arg("--version").output().is_err() {
        println!("not run: `make run` without root: there is no `make` on PATH");
        return;
    }
    // The Makefile and the program themselves, where `nobody` can read them; in cargo's place what it
    // would run, since `nobody` cannot build in this directory.
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open(dir.path());
    let makefile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Makefile");
    fs::copy(makefile, dir.path().join("Makefile")).unwrap();
    let program = dir.path().join("xtask");
    fs::copy(env!("CARGO_BIN_EXE_xtask"), &program).unwrap();
    let cargo = dir.path().join("cargo");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = xtask ] && shift && exec {} \"$@\"\n",
        program.display()
    );
    fs::write(&cargo, script).unwrap();
    open(&program);
    open(&cargo);

    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dir.path().display());
    let mut make = Command::new("make");
    make.arg("run")
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", path);
    if nix::unistd::geteuid().is_root() {
        make.uid(NOBODY).gid(NOBODY);
    }
    let output = make.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    // make says that a command failed, in a line of its own.
    let lines: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with("make: "))
        .collect();
    let [line] = lines[..] else {
        panic!("not one line: {told}");
    };
    assert!(
        line.starts_with("error: ") && line.contains("needs root"),
        "{line}"
    );
    assert!(line.contains("`make try`"), "{line}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
}
