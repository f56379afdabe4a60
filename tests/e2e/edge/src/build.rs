//! Programs from Go modules, and HAProxy from Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use postern_cluster::{go, kept, module_dir};
use sha2::{Digest as _, Sha256};

use crate::debian;

/// Where in the cache what is made here is kept.
pub(crate) const ROOM: &str = "edge";

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
    kept(ROOM, "router", &fingerprint(&module)?, |into| {
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
    kept(ROOM, "metallb", &fingerprint(&module)?, |into| {
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

/// HAProxy with its libraries, as files of an image.
pub(crate) fn haproxy() -> Result<PathBuf> {
    debian::unpacked("haproxy", &PACKAGES)
}

/// Where the Go modules are.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("go")
}

fn fingerprint(module: &Path) -> Result<String> {
    postern_cluster::fingerprint(include_str!("build.rs"), module)
}

/// A name for a text.
pub(crate) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use std::process::{Command, Stdio};

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
