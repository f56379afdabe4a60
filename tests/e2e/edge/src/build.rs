//! Programs from Go modules, and HAProxy from Debian's packages, made once and kept in a folder
//! that is named by what they were made of.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use postern_cluster::go;
use sha2::{Digest as _, Sha256};

/// HAProxy, and what it needs to run in an image that has nothing else.
const PACKAGES: [&str; 17] = [
    "haproxy",
    "libc6",
    "libcap2",
    "libcrypt1",
    "libgcc-s1",
    "libgcrypt20",
    "libgpg-error0",
    "liblua5.3-0",
    "liblz4-1",
    "liblzma5",
    "libopentracing-c-wrapper0",
    "libopentracing1",
    "libpcre2-8-0",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libzstd1",
];

/// The stand-in's programs, `router` and `who`, beside the CRD `routes.crd.yaml`.
pub(crate) fn router() -> Result<PathBuf> {
    let module = modules().join("router");
    kept("router", &fingerprint(&module)?, |into| {
        let output = format!("{}/", into.display());
        let build = ["build", "-ldflags", "-s -w", "-o", &output, ".", "./who"];
        go(&module, &build)?;
        let api = module_dir(&module, "github.com/openshift/api")?;
        let crd = "routes.crd.yaml";
        fs::copy(
            api.join("route/v1/zz_generated.crd-manifests").join(crd),
            into.join(crd),
        )
        .with_context(|| format!("{} holds no {crd}", api.display()))?;
        Ok(())
    })
}

/// MetalLB's programs `controller` and `speaker`, beside its own `manifest.yaml`.
pub(crate) fn metallb() -> Result<PathBuf> {
    let module = modules().join("metallb");
    kept("metallb", &fingerprint(&module)?, |into| {
        let output = format!("{}/", into.display());
        go(
            &module,
            &["build", "-ldflags", "-s -w", "-o", &output, "tool"],
        )?;
        let source = module_dir(&module, "go.universe.tf/metallb")?;
        let manifest = source.join("config/manifests/metallb-native.yaml");
        fs::copy(&manifest, into.join("manifest.yaml"))
            .with_context(|| manifest.display().to_string())?;
        Ok(())
    })
}

/// HAProxy with its libraries, as files of an image. Unpacked, not installed: Debian's package would
/// start a service.
pub(crate) fn haproxy() -> Result<PathBuf> {
    // Asked of apt, which knows without the network.
    let known = apt_get(&["download", "--print-uris"], Path::new("/"))?;
    let mut lines: Vec<&str> = known.lines().collect();
    lines.sort_unstable();
    ensure!(
        lines.len() == PACKAGES.len(),
        "apt-get does not say where {} are: is this Debian 12?",
        PACKAGES.join(", ")
    );
    kept("haproxy", &digest(&lines.join("\n")), |into| {
        let debs = tempfile::tempdir_in(into)?;
        apt_get(&["download"], debs.path())?;
        for deb in fs::read_dir(debs.path())? {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(deb?.path()).arg(into.join("root"));
            crate::must("dpkg-deb", unpack.stdin(Stdio::null()).output()?)?;
        }
        Ok(())
    })
    .map(|dir| dir.join("root"))
}

/// Where the Go modules are.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("go")
}

/// The folder of what `make` made, whole or not there; one builder at a time.
fn kept(name: &str, made_of: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let root = postern_cluster::cache()?.join("edge");
    let home = root.join(format!("{name}-{made_of}"));
    if home.is_dir() {
        return Ok(home);
    }
    fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
    let path = root.join(format!(".{name}.lock"));
    let lock = File::create(&path).with_context(|| path.display().to_string())?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("lock {}", path.display()))?;
    // Whoever held the lock before may have made it.
    if home.is_dir() {
        return Ok(home);
    }
    // What lies about is of a build that was cut short.
    let unfinished = format!(".{name}-");
    for entry in fs::read_dir(&root)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&unfinished) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let work = tempfile::Builder::new()
        .prefix(&unfinished)
        .tempdir_in(&root)?;
    make(work.path()).with_context(|| format!("cannot make {name}"))?;
    fs::rename(work.keep(), &home)?;
    Ok(home)
}

fn fingerprint(module: &Path) -> Result<String> {
    postern_cluster::fingerprint(include_str!("build.rs"), module)
}

/// A name for a text.
pub(crate) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Where Go keeps a module that another one requires.
fn module_dir(module: &Path, required: &str) -> Result<PathBuf> {
    let output = go(module, &["mod", "download", "-json", required])?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let dir = told["Dir"].as_str().context("go names no folder")?;
    Ok(dir.into())
}

/// What apt-get prints about HAProxy's packages. Where it knows none and may, it learns first.
fn apt_get(act: &[&str], dir: &Path) -> Result<String> {
    let run = || {
        Command::new("apt-get")
            .args(["--quiet=2", "-o", "APT::Sandbox::User=root"])
            .args(act)
            .args(PACKAGES)
            .env("LC_ALL", "C.UTF-8")
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .context("HAProxy is taken from Debian's packages, and there is no apt-get here")
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
    crate::must("apt-get", output)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    /// The loader of the unpacked packages, with their libraries: HAProxy runs by it here.
    fn haproxy_here() -> String {
        let root = haproxy().unwrap();
        let mut folders = Vec::new();
        let mut loader = None;
        for base in ["lib", "usr/lib"] {
            for entry in fs::read_dir(root.join(base)).unwrap() {
                let dir = entry.unwrap().path();
                let Ok(files) = fs::read_dir(&dir) else {
                    continue;
                };
                let found = files.flatten().map(|file| file.path()).find(|path| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    name.starts_with("ld-linux")
                });
                loader = loader.or(found);
                folders.push(dir.display().to_string());
            }
        }
        let program = root.join("usr/sbin/haproxy");
        format!(
            "{} --inhibit-cache --library-path {} {}",
            loader.unwrap().display(),
            folders.join(":"),
            program.display()
        )
    }

    #[test]
    fn the_routers_own_tests_pass_with_haproxy_itself() {
        let [_, certificate, key] = crate::certificate(&["example.test"]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("pair.pem");
        fs::write(&pem, certificate + &key).unwrap();
        let output = Command::new("go")
            .args(["test", "-v", "./..."])
            .current_dir(modules().join("router"))
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env("GOFLAGS", "-buildvcs=false")
            .env("HAPROXY", haproxy_here())
            .env("HAPROXY_PEM", &pem)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}{wrong}");
        assert!(
            told.contains("--- PASS: TestHAProxyTakesWhatIsRendered"),
            "{told}"
        );
        assert!(!told.contains("--- SKIP"), "{told}");
    }
}
