//! The base of our images, from Debian's packages: the C library, certificates, users, and what
//! scanners ask for. No shell, no package manager, nothing that runs with another user's rights.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::FORMAT;
use crate::tools;

/// Packages that a base is made of; `libgcc-s1` unwinds Rust's stacks.
const PACKAGES: [&str; 4] = ["base-files", "ca-certificates", "libc6", "libgcc-s1"];

/// What is taken of a library package, besides the loader. Others of libc6 are for programs that we
/// have not, as its 8 MB of character sets are.
const LIBRARIES: [&str; 10] = [
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
];

const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\n\
                      nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n\
                      nobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\nnogroup:x:65534:\n";
/// Without it the C library would ask no file: `hostAliases` of a pod are in /etc/hosts.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// The packages that this machine's sources offer now.
pub(super) struct Packages(Vec<Package>);

struct Package {
    name: String,
    version: String,
    sha256: String,
}

impl Packages {
    /// Asks apt, which knows without the network.
    pub(super) fn find() -> Result<Packages> {
        let known = apt_get(&["download", "--print-uris"], &PACKAGES, Path::new("/"))?;
        Packages::parse(&known)
    }

    /// From lines `'address' name_version_arch.deb size SHA256:digest`.
    pub(super) fn parse(printed: &str) -> Result<Packages> {
        let package = |line: &str| {
            let mut words = line.rsplit(' ');
            let sha256 = words.next()?.strip_prefix("SHA256:")?.to_owned();
            let mut parts = words.nth(1)?.split('_');
            Some(Package {
                name: parts.next()?.to_owned(),
                version: parts.next()?.replace("%3a", ":"),
                sha256,
            })
        };
        let mut found: Vec<Package> = printed.lines().filter_map(package).collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        let names: Vec<&str> = found.iter().map(|package| package.name.as_str()).collect();
        ensure!(
            names == PACKAGES,
            "apt-get does not say where {} are (it names {names:?}): is this Debian or made of it?",
            PACKAGES.join(", ")
        );
        Ok(Packages(found))
    }

    /// Equal for equal contents of the base.
    pub(super) fn identity(&self) -> String {
        let digests: Vec<&str> = self
            .0
            .iter()
            .map(|package| package.sha256.as_str())
            .collect();
        digests.join(" ")
    }

    /// A line for people.
    pub(super) fn about(&self) -> String {
        let about = |package: &Package| format!("{} {}", package.name, package.version);
        self.0.iter().map(about).collect::<Vec<_>>().join(", ")
    }

    /// The base, made in `work` unless `store` has it already. `store` keeps one.
    pub(super) fn assemble(&self, store: &Path, work: &Path) -> Result<PathBuf> {
        let mark = store.join("made-of");
        let root = store.join("root");
        let made_of = format!("{FORMAT} {}", self.identity());
        if fs::read_to_string(&mark).is_ok_and(|known| known == made_of) {
            return Ok(root);
        }
        if store.exists() {
            fs::remove_dir_all(store)
                .with_context(|| format!("cannot remove {}", store.display()))?;
        }
        let made = work.join("base");
        self.make(&made.join("root"), work)?;
        fs::write(made.join("made-of"), made_of)?;
        fs::rename(&made, store)?;
        Ok(root)
    }

    fn make(&self, root: &Path, work: &Path) -> Result<()> {
        let debs = work.join("debs");
        fs::create_dir_all(&debs)?;
        let names: Vec<&str> = self.0.iter().map(|package| package.name.as_str()).collect();
        apt_get(&["download"], &names, &debs)?;
        let compiler = licence_package(&find_deb(&debs, "libgcc-s1")?)?;
        apt_get(&["download"], &[&compiler], &debs)?;
        fs::create_dir_all(root.join("var/lib/dpkg/status.d"))?;
        for name in names.into_iter().chain([compiler.as_str()]) {
            let deb = find_deb(&debs, name)?;
            let unpacked = work.join("unpacked").join(name);
            fs::create_dir_all(&unpacked)?;
            tools::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacked))?;
            take(&unpacked, Path::new(""), root)?;
            if name == "ca-certificates" {
                bundle(&unpacked.join("usr/share/ca-certificates"), root)?;
            }
            // Where scanners look for packages in images that have no package manager.
            let about = dpkg_deb(&deb, &[])?;
            fs::write(root.join("var/lib/dpkg/status.d").join(name), about)?;
        }
        // Newer packages ship all of it below /usr.
        for dir in ["lib", "lib64"] {
            if !root.join(dir).exists() && root.join("usr").join(dir).exists() {
                symlink(format!("usr/{dir}"), root.join(dir))?;
            }
        }
        fs::create_dir_all(root.join("tmp"))?;
        fs::write(root.join("etc/passwd"), PASSWD)?;
        fs::write(root.join("etc/group"), GROUP)?;
        fs::write(root.join("etc/nsswitch.conf"), NSSWITCH)?;
        set_modes(root)
    }
}

/// Runs apt-get for some packages of the base.
fn apt_get(act: &[&str], packages: &[&str], dir: &Path) -> Result<String> {
    postern_edge::apt_get(act, packages, dir).context(
        "the base of the images is assembled from Debian's packages; without them, build from sources \
         (see the Containerfile)",
    )
}

fn find_deb(debs: &Path, name: &str) -> Result<PathBuf> {
    let prefix = format!("{name}_");
    let is_it = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|file| file.to_string_lossy().starts_with(&prefix))
    };
    fs::read_dir(debs)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(is_it)
        .with_context(|| format!("apt-get left no package {name}"))
}

fn dpkg_deb(deb: &Path, fields: &[&str]) -> Result<String> {
    let output = Command::new("dpkg-deb")
        .arg("-f")
        .arg(deb)
        .args(fields)
        .output()
        .context("cannot start dpkg-deb")?;
    ensure!(output.status.success(), "{} is no package", deb.display());
    Ok(String::from_utf8(output.stdout)?)
}

/// The package that holds the licence of libgcc: `gcc-12-base` or another number.
fn licence_package(libgcc: &Path) -> Result<String> {
    let depends = dpkg_deb(libgcc, &["Depends"])?;
    depends
        .split([',', ' ', '\n'])
        .find(|word| word.starts_with("gcc-") && word.ends_with("-base"))
        .map(str::to_owned)
        .with_context(|| format!("libgcc-s1 does not say where its licence is: {depends}"))
}

/// Copies what is wanted of an unpacked package.
fn take(unpacked: &Path, at: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(unpacked.join(at))? {
        let entry = entry?;
        let path = at.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            take(unpacked, &path, root)?;
        } else if wanted(&path) {
            let to = root.join(&path);
            fs::create_dir_all(to.parent().unwrap_or(root))?;
            if kind.is_symlink() {
                symlink(fs::read_link(entry.path())?, to)?;
            } else {
                fs::copy(entry.path(), to)?;
            }
        }
    }
    Ok(())
}

/// Whether a file of a package, named from the root, is part of the base.
pub(super) fn wanted(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_library = (path.starts_with("lib") || path.starts_with("usr/lib"))
        && LIBRARIES.contains(&name.as_ref());
    let is_loader = name.starts_with("ld-linux") && name.contains(".so");
    // `usr/share/doc/PACKAGE` itself may be a link to the folder of another package.
    let depth = path.components().count();
    let is_licence = path.starts_with("usr/share/doc")
        && (depth == 4 || depth == 5 && name == "copyright")
        || path.starts_with("usr/share/common-licenses");
    let says_what_it_is = ["etc/os-release", "usr/lib/os-release", "etc/debian_version"]
        .iter()
        .any(|known| path == Path::new(known));
    is_library || is_loader || is_licence || says_what_it_is
}

/// All certificates in one file, as `update-ca-certificates` writes it.
fn bundle(certificates: &Path, root: &Path) -> Result<()> {
    let mut files = Vec::new();
    for dir in fs::read_dir(certificates)? {
        for file in fs::read_dir(dir?.path())? {
            files.push(file?.path());
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "ca-certificates holds no certificate");
    let mut all = String::new();
    for file in files {
        all.push_str(fs::read_to_string(file)?.trim_end());
        all.push('\n');
    }
    let dir = root.join("etc/ssl/certs");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("ca-certificates.crt"), all)?;
    Ok(())
}

/// Everything readable by all and writable by its owner, whatever umask and packages say; no bit
/// that lends rights.
pub(super) fn set_modes(path: &Path) -> Result<()> {
    let meta = path.symlink_metadata()?;
    if meta.is_symlink() {
        return Ok(());
    }
    let runs = meta.is_dir() || meta.permissions().mode() & 0o111 != 0;
    fs::set_permissions(
        path,
        Permissions::from_mode(if runs { 0o755 } else { 0o644 }),
    )?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            set_modes(&entry?.path())?;
        }
    }
    Ok(())
}

/// Whether a program finds all that it needs in the base: asks the base's own loader.
///
/// # Errors
/// Where it does not, in one line.
pub(super) fn check(root: &Path, program: &Path) -> Result<()> {
    let (loader, folders) = loader(root)?;
    let output = Command::new(&loader)
        .args(["--inhibit-cache", "--library-path"])
        .arg(&folders)
        .arg("--list")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .with_context(|| format!("cannot start {}", loader.display()))?;
    let printed = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let printed = String::from_utf8_lossy(&printed);
    let name = program.display();
    // `program: library: version `GLIBC_2.38' not found (required by program)`
    if let Some(version) = printed.split("version `").nth(1) {
        let version = version.split('\'').next().unwrap_or_default();
        bail!(
            "{name} needs {version}, newer than the base has: build it on the release that the base is of, or \
             from sources (see the Containerfile)"
        );
    }
    // `…: error while loading shared libraries: libx.so.1: cannot open …`, or where it was found: not
    // in the base. The loader itself is named by its path, and is the one that runs.
    let not_there = printed
        .split("shared libraries: ")
        .nth(1)
        .and_then(|rest| rest.split(':').next());
    let elsewhere = printed
        .lines()
        .filter_map(|line| line.trim().split_once(" => "))
        .find(|(library, found)| !library.starts_with('/') && !Path::new(found).starts_with(root))
        .map(|(library, _)| library);
    if let Some(library) = not_there.or(elsewhere) {
        bail!("{name} needs {library}, which the base has not");
    }
    ensure!(output.status.success(), "{name}: {}", printed.trim());
    Ok(())
}

/// The base's loader, and the folders of its libraries as the loader wants them.
fn loader(root: &Path) -> Result<(PathBuf, String)> {
    let mut folders: Vec<String> = Vec::new();
    let mut loader = None;
    for dir in ["lib", "usr/lib"].map(|dir| root.join(dir)) {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for dir in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let mut files = fs::read_dir(&dir).into_iter().flatten().flatten();
            if dir.join("libc.so.6").exists() {
                folders.push(dir.display().to_string());
                loader = loader.or_else(|| {
                    files
                        .find(|file| file.file_name().to_string_lossy().starts_with("ld-linux"))
                        .map(|file| file.path())
                });
            }
        }
    }
    let loader = loader.with_context(|| format!("{} has no C library", root.display()))?;
    Ok((loader, folders.join(":")))
}
