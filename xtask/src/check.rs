//! `cargo xtask check`: formatting, lints, generated files, licences, and who imports whom.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use postern_e2e::tools;

/// The version of cargo-deny, which is built once and kept in the cache.
const CARGO_DENY: &str = "0.20.2";

/// Runs all checks, and says at the end which failed.
pub fn run() -> Result<ExitCode> {
    let root = tools::repository();
    let cache = postern_cluster::cache()?.join("tools");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let deny = cache.join(format!("cargo-deny-{CARGO_DENY}"));
    let mut failed = Vec::new();
    let mut step = |name: &str, commands: &mut [Command]| -> Result<()> {
        let started = Instant::now();
        let mut fine = true;
        for command in commands {
            let program = command.get_program().to_string_lossy().into_owned();
            fine &= command
                .current_dir(&root)
                .status()
                .with_context(|| format!("cannot start {program}"))?
                .success();
        }
        println!(
            "{}: {name} ({:.0} s)",
            if fine { "ok" } else { "FAILED" },
            started.elapsed().as_secs_f64()
        );
        if !fine {
            failed.push(name.to_owned());
        }
        Ok(())
    };
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&cargo);
        command.args(arguments);
        command
    };
    step("formatting", &mut [run(&["fmt", "--all", "--check"])])?;
    step(
        "lints",
        &mut [run(&[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])],
    )?;
    step("generated files", &mut [run(&["xtask", "gen", "--check"])])?;
    step(
        "who imports whom, length of files",
        &mut [run(&[
            "test",
            "--quiet",
            "--package",
            "xtask",
            "--test",
            "layers",
        ])],
    )?;
    let mut dependencies = Vec::new();
    if !deny.join("bin/cargo-deny").is_file() {
        let mut install = run(&[
            "install",
            "--quiet",
            "--locked",
            "--version",
            CARGO_DENY,
            "cargo-deny",
            "--root",
        ]);
        install.arg(&deny);
        dependencies.push(install);
    }
    let mut check = Command::new(deny.join("bin/cargo-deny"));
    check.args([
        "--log-level",
        "error",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    dependencies.push(check);
    step("dependencies", &mut dependencies)?;
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}
