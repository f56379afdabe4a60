//! OLM's programs. A change of this file is a change of what it makes: it is part of the name of the
//! folder that they are kept in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};

use crate::binaries::{check_go, fingerprint};
use crate::layout::{Lock, cache, make_private_dir};
use crate::progress::Progress;
use crate::start::must;
use crate::{prepare, recipe};

const PROGRAMS: [&str; 7] = [
    "olm",
    "catalog",
    "opm",
    "cpb",
    "grpc-health-probe",
    "cp",
    RENDER,
];
/// Our own, beside `opm`.
const RENDER: &str = "catalog-render";
/// `opm` reads images with these; without them it needs C libraries.
const TAGS: &str =
    "json1,containers_image_openpgp,exclude_graphdriver_btrfs,exclude_graphdriver_devicemapper";
/// The module whose folder holds OLM's definitions.
const API: &str = "github.com/operator-framework/api";
/// OLM's programs and definitions, built from Go modules once and kept in the cache.
#[derive(Clone, Debug)]
pub struct OlmPrograms {
    dir: PathBuf,
}

impl OlmPrograms {
    /// Builds them where they are missing: about a minute beside the node's programs, five alone.
    ///
    /// # Errors
    /// Where there is no Go, or they do not build.
    pub fn built(quiet: bool) -> Result<Self> {
        let dir = built(
            "olm",
            "OLM and opm (one to seven minutes)",
            quiet,
            build_olm,
        )?;
        Ok(Self { dir })
    }

    /// Runs `opm`, the catalogs' tool. The output is for the caller to judge.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn opm(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(self.program("opm"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot run opm")
    }

    /// Renders a semver template of a catalog (YAML), with bundles from directories: image name and
    /// directory of each.
    ///
    /// # Errors
    /// Where template or bundle are not taken; with what was said.
    pub fn render(&self, template: &Path, bundles: &[(&str, &Path)]) -> Result<String> {
        let bundles = bundles
            .iter()
            .map(|(image, dir)| format!("{image}={}", dir.display()));
        let output = Command::new(self.program(RENDER))
            .arg(template)
            .args(bundles)
            .stdin(Stdio::null())
            .output()
            .context("cannot run catalog-render")?;
        Ok(String::from_utf8(
            must("rendering of the catalog", output)?.stdout,
        )?)
    }

    /// One of [`PROGRAMS`].
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder of OLM's definitions.
    pub(super) fn crds(&self) -> PathBuf {
        self.dir.join("crds")
    }
}

/// operator-sdk, which runs scorecards, and the programs of the images that it runs.
#[derive(Clone, Debug)]
pub(super) struct ScorecardPrograms {
    dir: PathBuf,
}

impl ScorecardPrograms {
    pub(super) fn built() -> Result<Self> {
        let about = "operator-sdk's scorecard (four minutes)";
        let dir = built("scorecard", about, false, build_scorecard)?;
        Ok(Self { dir })
    }

    /// `operator-sdk`, `scorecard-test` or `untar`.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The folder of what `build` makes of the Go module of this name.
fn built(
    name: &str,
    about: &str,
    quiet: bool,
    build: fn(&Path, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let root = cache()?.join("cluster");
    let sources = sources(name);
    let fingerprint = fingerprint(include_str!("programs.rs"), &sources)?;
    let dir = root.join(format!("{name}-{fingerprint}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    check_go()?;
    prepare::check_space(&cache()?, true)?;
    let progress = Progress::new(quiet);
    make_private_dir(&root)?;
    progress.stage("waiting for other builds, if any");
    let _lock = Lock::take(root.join(format!(".{name}.lock")))?;
    if dir.is_dir() {
        return Ok(dir);
    }
    progress.stage(&format!("building {about}"));
    // What lies here is of a build that was cut short: the lock is ours.
    let unfinished = dir.with_extension("new");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    make_private_dir(&unfinished)?;
    build(&sources, &unfinished)?;
    fs::rename(&unfinished, &dir)?;
    progress.stage("built");
    Ok(dir)
}

fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn build_scorecard(sources: &Path, into: &Path) -> Result<()> {
    let target = format!("{}/", into.display());
    let build = [
        "build", "-tags", TAGS, "-ldflags", "-s -w", "-o", &target, "tool", "./untar",
    ];
    recipe::run_go(sources, false, &build)?;
    Ok(())
}

fn build_olm(sources: &Path, into: &Path) -> Result<()> {
    let target = format!("{}/", into.display());
    let build = [
        "build",
        "-tags",
        TAGS,
        "-ldflags",
        "-s -w",
        "-o",
        &target,
        "tool",
        "./catalog-render",
        "./cp",
    ];
    recipe::run_go(sources, false, &build)?;
    for program in PROGRAMS {
        ensure!(into.join(program).is_file(), "no {program} was built");
    }
    let listed = recipe::run_go(sources, false, &["list", "-m", "-f", "{{.Dir}}", API])?;
    let from = PathBuf::from(String::from_utf8(listed.stdout)?.trim()).join("crds");
    let to = into.join("crds");
    make_private_dir(&to)?;
    let mut copied = 0;
    for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let name = path.file_name().context("a file without a name")?;
            fs::write(to.join(name), fs::read(&path)?)?;
            copied += 1;
        }
    }
    ensure!(copied > 0, "no definitions in {}", from.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packages that both modules need are compiled once, and the API is the cluster's own.
    #[test]
    fn shared_modules_are_of_the_nodes_versions() {
        let versions = |module: &Path| {
            let text = fs::read_to_string(module.join("go.mod")).unwrap();
            let pairs = text.lines().filter_map(|line| {
                let line = line.trim().trim_start_matches("require ");
                match line.strip_prefix("replace ") {
                    Some(replaced) => {
                        Some((line.split(" => ").next()?.to_owned(), replaced.to_owned()))
                    }
                    None => {
                        let (name, version) = line.split_once(' ')?;
                        let version = version.split(' ').next()?;
                        version
                            .starts_with('v')
                            .then(|| (name.to_owned(), version.to_owned()))
                    }
                }
            });
            pairs.collect::<std::collections::BTreeMap<_, _>>()
        };
        let node = versions(&sources("go/node"));
        let own = versions(&sources("olm"));
        let mut shared = 0;
        for (name, version) in &own {
            if let Some(of_node) = node.get(name) {
                assert_eq!(version, of_node, "{name}");
                shared += 1;
            }
        }
        assert!(shared > 100, "{shared}");
    }
}
