//! The programs of a node, built from Go modules once and kept in the cache.
//!
//! Everything lies in one folder named by what it was built from. A part is built in a folder
//! beside it and renamed, so what is there is whole; a lock keeps two builders apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::layout::{Lock, cache, make_private_dir};
use crate::progress::Progress;
use crate::recipe::{NODE_PARTS, OLD_GATEWAY_API, build};

/// What the modules' `go` line asks for.
const GO_NEEDED: (u32, u32, u32) = (1, 26, 3);

/// A set of programs that is built at one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Kubernetes, etcd, CoreDNS, network policies: one program; and the Gateway API's CRDs.
    Node,
    /// containerd, CNI plugins, and our own small programs.
    Tools,
    /// runc, which alone needs a C compiler and libseccomp.
    Runc,
}

impl Part {
    pub const FULL: &'static [Part] = &[Part::Node, Part::Tools, Part::Runc];
    /// What etcd and an API server need.
    pub const LIGHT: &'static [Part] = &[Part::Node];

    fn folder(self) -> &'static str {
        match self {
            Part::Node => "node",
            Part::Tools => "tools",
            Part::Runc => "runc",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Part::Node => "Kubernetes, etcd, CoreDNS (6 to 8 minutes on two cores)",
            Part::Tools => "containerd, CNI plugins, echo (under a minute)",
            Part::Runc => "runc (a few seconds)",
        }
    }
}

/// The folder of built programs.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where the programs of the present sources are, built or not.
    pub fn locate() -> Result<Self> {
        let root = cache()?.join("cluster");
        Ok(Self::at(
            root.join(fingerprint(include_str!("recipe.rs"), &sources())?),
        ))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn program(&self, name: &str) -> PathBuf {
        let part = match name {
            "runc" => Part::Runc,
            _ if NODE_PARTS.contains(&name) => Part::Node,
            _ => Part::Tools,
        };
        self.dir.join(part.folder()).join(name)
    }

    pub fn cni(&self) -> PathBuf {
        self.dir.join(Part::Tools.folder()).join("cni")
    }

    /// The folder of the Gateway API's CRDs of a channel; `old`: of the oldest version.
    pub fn crds(&self, channel: &str, old: bool) -> PathBuf {
        let folder = match old {
            false => "gateway-api".to_owned(),
            true => format!("gateway-api-{OLD_GATEWAY_API}"),
        };
        let node = self.dir.join(Part::Node.folder());
        node.join(folder).join(channel)
    }

    /// `PATH` with our programs first; the folders of administrators' programs too, which an
    /// ordinary user's `PATH` lacks.
    pub fn path(&self) -> String {
        let own = Part::FULL
            .iter()
            .map(|part| self.dir.join(part.folder()).display().to_string());
        let inherited = std::env::var("PATH").unwrap_or_default();
        own.chain([inherited, "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()])
            .filter(|entry| !entry.is_empty())
            .collect::<Vec<_>>()
            .join(":")
    }

    pub fn missing(&self, parts: &[Part]) -> Vec<Part> {
        parts
            .iter()
            .copied()
            .filter(|part| !self.dir.join(part.folder()).is_dir())
            .collect()
    }

    /// Builds what is missing.
    pub fn ensure(&self, parts: &[Part], progress: &Progress) -> Result<()> {
        if self.missing(parts).is_empty() {
            return Ok(());
        }
        make_private_dir(&self.dir)?;
        progress.stage("waiting for other builds, if any");
        let root = self.dir.parent().context("no parent")?;
        let _lock = Lock::take(root.join(".build.lock"))?;
        // Whoever held the lock is done: what lies about is of a build that was cut short.
        remove_unfinished(&self.dir)?;
        for part in self.missing(parts) {
            progress.stage(&format!("building {}", part.about()));
            let unfinished = self.dir.join(format!(".{}", part.folder()));
            make_private_dir(&unfinished)?;
            build(part, &sources(), &unfinished)?;
            fs::rename(&unfinished, self.dir.join(part.folder()))?;
        }
        progress.stage("programs built");
        Ok(())
    }
}

/// The Go modules of this crate.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("go")
}

fn remove_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// A name for all that a build depends on: names and contents of the sources, and what is done
/// with them.
///
/// # Errors
/// Where the sources cannot be read, or there are none.
pub fn fingerprint(recipe: &str, sources: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(sources, &mut files)?;
    ensure!(!files.is_empty(), "no sources in {}", sources.display());
    files.sort();
    let mut hash = Sha256::new();
    hash.update(recipe);
    for file in files {
        let contents = fs::read(&file)?;
        let name = file.strip_prefix(sources)?.as_os_str().as_encoded_bytes();
        for piece in [name, &contents] {
            // The length before each piece: no two trees give the same bytes.
            hash.update(piece.len().to_be_bytes());
            hash.update(piece);
        }
    }
    let digest = hash.finalize();
    Ok(digest.iter().take(8).map(|b| format!("{b:02x}")).collect())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Refuses to begin where Go is missing or too old.
pub(crate) fn check_go() -> Result<()> {
    let (major, minor, patch) = GO_NEEDED;
    let way_out = format!("put Go {major}.{minor}.{patch} or newer on PATH (https://go.dev/dl/)");
    let Ok(output) = Command::new("go")
        .arg("version")
        .env("GOTOOLCHAIN", "local")
        .output()
    else {
        bail!("the node's programs are built from source and there is no Go: {way_out}");
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = go_version(&told).with_context(|| format!("go says {told:?}: {way_out}"))?;
    ensure!(
        found >= GO_NEEDED,
        "Go {}.{}.{} is too old: {way_out}",
        found.0,
        found.1,
        found.2
    );
    Ok(())
}

/// `go version go1.26.3 linux/amd64`
fn go_version(told: &str) -> Option<(u32, u32, u32)> {
    let word = told.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut numbers = word
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next()?.ok()?;
    let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
    Some((major, minor, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_the_sources_is_another_build() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("node")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("node/go.mod", "module a");
        write("node/main.go", "package main");
        let first = fingerprint("", dir.path()).unwrap();
        assert_eq!(first, fingerprint("", dir.path()).unwrap());
        assert_eq!(first.len(), 16);
        write("node/main.go", "package other");
        let second = fingerprint("", dir.path()).unwrap();
        assert_ne!(first, second);
        // The same bytes, cut elsewhere.
        write("node/main.go", "package othe");
        write("node/main.gor", "");
        assert_ne!(second, fingerprint("", dir.path()).unwrap());
    }

    #[test]
    fn go_versions() {
        assert_eq!(
            go_version("go version go1.26.8 linux/amd64"),
            Some((1, 26, 8))
        );
        assert_eq!(
            go_version("go version go1.27 linux/arm64"),
            Some((1, 27, 0))
        );
        assert_eq!(go_version("go version go1.28rc1 x"), Some((1, 28, 0)));
        assert_eq!(go_version("zsh: no go"), None);
        // The modules ask for the same version that the check does.
        for module in ["node", "runc"] {
            let text = fs::read_to_string(sources().join(module).join("go.mod")).unwrap();
            let (a, b, c) = GO_NEEDED;
            assert!(text.contains(&format!("\ngo {a}.{b}.{c}\n")), "{module}");
        }
    }

    #[test]
    fn a_build_cut_short_is_not_taken_for_whole() {
        let dir = tempfile::tempdir().unwrap();
        let binaries = Binaries::at(dir.path().to_owned());
        fs::create_dir(dir.path().join(".node")).unwrap();
        fs::create_dir(dir.path().join("runc")).unwrap();
        assert_eq!(binaries.missing(Part::FULL), [Part::Node, Part::Tools]);
        remove_unfinished(dir.path()).unwrap();
        assert!(!dir.path().join(".node").exists());
        assert!(dir.path().join("runc").exists());
    }

    #[test]
    fn programs_are_found_by_name() {
        let binaries = Binaries::at("/b".into());
        assert_eq!(binaries.program("kubelet"), Path::new("/b/node/kubelet"));
        assert_eq!(binaries.program("ctr"), Path::new("/b/tools/ctr"));
        assert_eq!(binaries.program("runc"), Path::new("/b/runc/runc"));
        assert!(binaries.path().starts_with("/b/node:/b/tools:/b/runc:"));
    }
}
