//! Programs from Debian's packages. They are unpacked, not installed: what is installed may start a
//! service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use postern_cluster::kept;

use crate::build::{ROOM, digest};

/// The root of a file system with what these packages hold, kept in the cache under this name.
pub(crate) fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf> {
    // Asked of apt, which knows without the network.
    let known = apt_get(&["download", "--print-uris"], packages, Path::new("/"))?;
    let mut lines: Vec<&str> = known.lines().collect();
    lines.sort_unstable();
    ensure!(
        lines.len() == packages.len(),
        "apt-get does not say where {} are: is this Debian 12?",
        packages.join(", ")
    );
    kept(ROOM, name, &digest(&lines.join("\n")), |into| {
        let debs = tempfile::tempdir_in(into)?;
        apt_get(&["download"], packages, debs.path())?;
        for deb in fs::read_dir(debs.path())? {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(deb?.path()).arg(into.join("root"));
            crate::must("dpkg-deb", unpack.stdin(Stdio::null()).output()?)?;
        }
        Ok(())
    })
    .map(|dir| dir.join("root"))
}

/// What apt-get prints about some packages. Where it knows none of them and may, it learns first.
///
/// # Errors
/// Where there is no apt-get, or it cannot get them; with the first that it said.
pub fn apt_get(act: &[&str], packages: &[&str], dir: &Path) -> Result<String> {
    let run = || {
        Command::new("apt-get")
            .args(["--quiet=2", "-o", "APT::Sandbox::User=root"])
            .args(act)
            .args(packages)
            .env("LC_ALL", "C.UTF-8")
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .with_context(|| {
                let what = packages.join(", ");
                format!("{what}: taken from Debian's packages, and there is no apt-get here")
            })
    };
    let mut output = run()?;
    if !output.status.success() && nix::unistd::geteuid().is_root() {
        let learned = Command::new("apt-get")
            .args(["--quiet=2", "update"])
            .stdin(Stdio::null())
            .output()?;
        if learned.status.success() {
            output = run()?;
        }
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    ensure!(
        output.status.success(),
        "apt-get cannot get {} ({said}): run `apt-get update` as root",
        packages.join(", ")
    );
    Ok(String::from_utf8(output.stdout)?)
}
