//! `cargo xtask bench`: ratios, measured side by side in one run.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use postern_e2e::tools;

/// What is measured, and what measures.
const PACKAGES: [&str; 2] = ["postern-bench", "postern-controlplane"];

/// Builds both as they are shipped, and measures.
pub fn run() -> Result<ExitCode> {
    let root = tools::repository();
    println!(
        "Ratios, measured side by side: translation, and memory against an API server of this machine (no root; \
         its programs are built once). First a release build, minutes where there is none yet."
    );
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release"]).current_dir(&root);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |target| root.join(target));
    let status = build.status().context("cannot start cargo")?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let program = target.join("release/postern-bench");
    let status = Command::new(&program)
        .current_dir(&root)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
