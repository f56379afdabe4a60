//! The catalog that `cargo xtask gen` made is what opm's own code makes of the semver template and the
//! bundle, and `opm validate` takes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use postern_cluster::OlmPrograms;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The documents of a YAML stream, those that say nothing left out.
fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().filter(|one| !one.is_null()).collect()
}

#[test]
fn the_catalog_is_what_opm_makes_of_template_and_bundle() {
    if Command::new("go").arg("version").output().is_err() {
        println!("not run: the catalog against opm: there is no `go` on PATH");
        return;
    }
    let programs = OlmPrograms::built(false).unwrap();
    let olm = root().join("olm");
    let catalog = olm.join("catalog");
    let answer = programs
        .opm(&["validate", catalog.to_str().unwrap()])
        .unwrap();
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(answer.status.success() && said.is_empty(), "{said}");

    let template = olm.join("catalog-templates/semver.yaml");
    let image = concat!("postern.dev/bundle:v", env!("CARGO_PKG_VERSION"));
    let bundle = root().join("bundle");
    let made = programs.render(&template, &[(image, &bundle)]).unwrap();
    let written = std::fs::read_to_string(catalog.join("postern/catalog.yaml")).unwrap();
    let (made, written) = (documents(&made), documents(&written));
    assert_eq!(made.len(), 3);
    for (made, written) in made.iter().zip(&written) {
        assert_eq!(made, written);
    }
    assert_eq!(made.len(), written.len());
}
