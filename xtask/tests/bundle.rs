//! What `cargo xtask gen` made, read by the code of those who will read it: OLM's validators, and
//! the API server's own checks of definitions and objects (`tests/e2e/bundle/go`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The checker, built; `None`, and a word why, where there is no Go.
fn checker() -> Option<PathBuf> {
    if Command::new("go").arg("version").output().is_err() {
        println!("not run: there is no `go` on PATH");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bundle-check");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&target)
        .arg(".")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0")
        .current_dir(root().join("tests/e2e/bundle/go"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", said(&built));
    Some(target)
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The multiarch validator asks `docker` what each image is made for, and there is no registry: this
/// stand-in says of our images what they are.
const DOCKER: &str = r#"#!/bin/sh
case "$1 $2" in
"pull postern.dev/"*) ;;
"manifest inspect") echo '{"manifests": [{"platform": {"architecture": "amd64", "os": "linux"}}]}' ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
"#;

fn check(checker: &Path, arguments: &[&Path]) -> Output {
    let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bundle-docker");
    fs::create_dir_all(&beside).unwrap();
    let docker = beside.join("docker");
    fs::write(&docker, DOCKER).unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new(checker)
        .args(arguments)
        .env("PATH", format!("{}:{path}", beside.display()))
        .output()
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// One test, since each part needs the checker built.
#[test]
fn who_will_read_them_takes_the_bundle_and_the_definitions() {
    let Some(checker) = checker() else {
        return;
    };
    let (bundle, crds) = (root().join("bundle"), root().join("crds"));
    let cases = root().join("tests/e2e/bundle/objects.yaml");
    for arguments in [
        vec![Path::new("bundle"), &bundle],
        vec![Path::new("crds"), &crds],
        vec![Path::new("objects"), &crds, &cases],
    ] {
        let answer = check(&checker, &arguments);
        assert!(answer.status.success(), "{}", said(&answer));
        print!("{}", said(&answer));
    }

    // The same checks find what is wrong: a warning, and a definition that no API server takes.
    let spoiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spoiled");
    let _ = fs::remove_dir_all(&spoiled);
    copy(&bundle, &spoiled.join("bundle"));
    copy(&crds, &spoiled.join("crds"));
    for (path, from, to) in [
        (
            "bundle/manifests/postern.clusterserviceversion.yaml",
            "minKubeVersion",
            "leastVersion",
        ),
        (
            "crds/tenantgrants.postern.dev.yaml",
            "size(self.matchLabels)",
            "size(self.absent)",
        ),
    ] {
        let path = spoiled.join(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{}", path.display());
        fs::write(&path, text.replace(from, to)).unwrap();
    }
    let answer = check(&checker, &[Path::new("bundle"), &spoiled.join("bundle")]);
    assert!(
        !answer.status.success() && said(&answer).contains("minKubeVersion"),
        "{}",
        said(&answer)
    );
    let answer = check(&checker, &[Path::new("crds"), &spoiled.join("crds")]);
    assert!(
        !answer.status.success() && said(&answer).contains("absent"),
        "{}",
        said(&answer)
    );
}
