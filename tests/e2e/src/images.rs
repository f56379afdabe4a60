//! Our container images, built on this machine without a registry: programs built here, on a base
//! that is assembled from Debian's packages, put together by the first of podman, docker and
//! buildah that works. What they are stands in the `Containerfile`.
//!
//! Nothing is left of a build but its archives: images and layers live in a folder of their own,
//! which goes with it.

mod base;
mod builder;

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use self::builder::{Builder, Work};
use crate::tools;

/// Counts up when what is built from equal inputs changes.
const FORMAT: u32 = 1;

/// An image, and the program in it.
struct Target {
    name: &'static str,
    program: &'static str,
}

const TARGETS: [Target; 4] = [
    Target {
        name: "operator",
        program: "postern-operator",
    },
    Target {
        name: "controlplane",
        program: "postern-controlplane",
    },
    Target {
        name: PROXY,
        program: "postern-proxy",
    },
    Target {
        name: "echo",
        program: "postern-echo",
    },
];

/// The image that holds Envoy too.
const PROXY: &str = "proxy";

/// The images, each as an OCI archive. [`reference`] is what a cluster that loaded one calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The operator.
    pub operator: PathBuf,
    /// The control plane.
    pub controlplane: PathBuf,
    /// Envoy under its supervisor.
    pub proxy: PathBuf,
    /// The backend of examples and tests.
    pub echo: PathBuf,
}

impl Images {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> [&Path; 4] {
        self.each().map(|(_, archive)| archive)
    }

    /// All of them, each with its target.
    #[must_use]
    pub fn each(&self) -> [(&'static str, &Path); 4] {
        [
            ("operator", &self.operator),
            ("controlplane", &self.controlplane),
            (PROXY, &self.proxy),
            ("echo", &self.echo),
        ]
    }
}

/// The name of the image that `target` of the Containerfile becomes here: `postern.test/…:dev`.
#[must_use]
pub fn reference(target: &str) -> String {
    format!("postern.test/{target}:dev")
}

/// Where archives are kept when nobody says otherwise: `${XDG_CACHE_HOME:-~/.cache}/postern/images`.
///
/// # Errors
/// Where there is neither `XDG_CACHE_HOME` nor `HOME`.
pub fn default_dir() -> Result<PathBuf> {
    Ok(postern_cluster::cache()?.join("images"))
}

/// Builds programs (with this cargo profile) and images, and leaves `OUT/<target>.tar`. An image
/// whose inputs are as they were is not built again: program, Envoy, base packages, Containerfile,
/// licences. `tell` hears a line a stage.
///
/// # Errors
/// Where a program does not build or needs a newer C library than the base has, there is no builder,
/// or Debian's packages cannot be had.
pub fn build(out: &Path, profile: &str, tell: &dyn Fn(&str)) -> Result<Images> {
    let programs = tools::build(&TARGETS.map(|target| target.program), profile)?;
    tell("programs are built");
    from_programs(out, &programs, tell)
}

/// As [`build`], with programs that are built already and lie in this folder.
///
/// # Errors
/// As for [`build`].
pub fn from_programs(out: &Path, programs: &Path, tell: &dyn Fn(&str)) -> Result<Images> {
    let envoy = tools::envoy()?;
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let out = &out.canonicalize()?;
    let _lock = lock(out)?;
    // The lock is ours, so what lies here is of a build that was killed.
    Work::sweep(out)?;
    let packages = base::Packages::find()?;
    let inputs = Inputs::new(programs, &envoy, &packages)?;
    let mut stale = Vec::new();
    for target in &TARGETS {
        let key = inputs.key(target);
        let known = fs::read_to_string(key_path(out, target.name)).unwrap_or_default();
        if known != key || !archive_path(out, target.name).is_file() {
            stale.push((target, key));
        }
    }
    if stale.is_empty() {
        tell("all images are as they were");
    } else {
        let work = Work::new(out)?;
        let done = make(out, &work, &inputs, &packages, &stale, tell);
        let removed = work.remove();
        done?;
        removed?;
    }
    let at = |name| archive_path(out, name);
    Ok(Images {
        operator: at("operator"),
        controlplane: at("controlplane"),
        proxy: at(PROXY),
        echo: at("echo"),
    })
}

fn make(
    out: &Path,
    work: &Work,
    inputs: &Inputs<'_>,
    packages: &base::Packages,
    stale: &[(&Target, String)],
    tell: &dyn Fn(&str),
) -> Result<()> {
    let builder = Builder::find(work)?;
    let root = packages.assemble(&out.join(".base"), work.path())?;
    tell(&format!("the base is there: {}", packages.about()));
    for (target, _) in stale {
        let needs_envoy = (target.name == PROXY).then_some(inputs.envoy);
        let program = inputs.programs.join(target.program);
        for file in [Some(program.as_path()), needs_envoy].into_iter().flatten() {
            base::check(&root, file).with_context(|| packages.about())?;
        }
    }
    let context = context(&work.path().join("context"), &root, inputs, stale)?;
    for (target, key) in stale {
        let made = work.path().join("made.tar");
        builder.build(&context, target.name, &made)?;
        let archive = archive_path(out, target.name);
        // Not the old key beside the new archive, whenever this ends.
        remove_file(&key_path(out, target.name))?;
        fs::rename(&made, &archive)?;
        fs::write(key_path(out, target.name), key)?;
        let size = archive.metadata()?.len() as f64 / f64::from(1 << 20);
        tell(&format!(
            "{} by {}: {size:.1} MiB",
            reference(target.name),
            builder.name()
        ));
    }
    Ok(())
}

/// What the images are made of.
struct Inputs<'a> {
    programs: &'a Path,
    envoy: &'a Path,
    packages: String,
    digests: Vec<(PathBuf, String)>,
}

impl<'a> Inputs<'a> {
    fn new(programs: &'a Path, envoy: &'a Path, packages: &base::Packages) -> Result<Inputs<'a>> {
        let mut files: Vec<PathBuf> = TARGETS
            .iter()
            .map(|target| programs.join(target.program))
            .collect();
        files.push(envoy.into());
        files.extend(shared_files());
        Ok(Inputs {
            programs,
            envoy,
            packages: packages.identity(),
            digests: digests(&files)?,
        })
    }

    fn key(&self, target: &Target) -> String {
        let program = self.programs.join(target.program);
        let shared = shared_files();
        let mut hash = Sha256::new();
        hash.update(format!("{FORMAT} {} {}\n", target.name, self.packages));
        for (path, digest) in &self.digests {
            let of_proxy = target.name == PROXY && path == self.envoy;
            if *path == program || of_proxy || shared.contains(path) {
                hash.update(format!("{digest}\n"));
            }
        }
        let mut key = String::new();
        for byte in hash.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(key, "{byte:02x}");
        }
        key
    }
}

/// Files of this repository that go into every image, or say what does.
fn shared_files() -> [PathBuf; 3] {
    let root = tools::repository();
    [
        root.join("Containerfile"),
        root.join("LICENSE"),
        root.join("licenses/envoy/NOTICE"),
    ]
}

/// What the files hold, as sha256. By coreutils: in a build without optimization they are ten times
/// as fast as code of ours.
fn digests(files: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let output = Command::new("sha256sum")
        .arg("--zero")
        .args(files)
        .output()
        .context("cannot start sha256sum")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let printed = String::from_utf8(output.stdout)?;
    let digests: Vec<_> = printed
        .split_terminator('\0')
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    ensure!(digests.len() == files.len(), "sha256sum left files out");
    Ok(files.iter().cloned().zip(digests).collect())
}

/// The folder that the Containerfile is built from.
fn context(
    context: &Path,
    root: &Path,
    inputs: &Inputs<'_>,
    stale: &[(&Target, String)],
) -> Result<PathBuf> {
    let [_, license, notice] = shared_files();
    let programs = context.join("given/programs");
    let envoy = context.join("given/envoy");
    let licenses = context.join("licenses/envoy");
    for dir in [&programs, &envoy, &licenses] {
        fs::create_dir_all(dir)?;
    }
    copy(&license, &context.join("LICENSE"))?;
    copy(&notice, &licenses.join("NOTICE"))?;
    for (target, _) in stale {
        let program = inputs.programs.join(target.program);
        copy(&program, &programs.join(target.program))?;
        if target.name == PROXY {
            copy(inputs.envoy, &envoy.join("envoy"))?;
        }
    }
    tools::run(
        Command::new("cp")
            .arg("-a")
            .arg(root)
            .arg(context.join("given/base")),
    )?;
    base::set_modes(context)?;
    // As it was before: the one folder that anyone may write to.
    fs::set_permissions(
        context.join("given/base/tmp"),
        Permissions::from_mode(0o1777),
    )?;
    Ok(context.into())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn archive_path(out: &Path, target: &str) -> PathBuf {
    out.join(format!("{target}.tar"))
}

fn key_path(out: &Path, target: &str) -> PathBuf {
    out.join(format!(".{target}.key"))
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn lock(out: &Path) -> Result<Flock<File>> {
    let path = out.join(".lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", path.display()))
}

#[cfg(test)]
mod tests;
