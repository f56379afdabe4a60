//! `cargo xtask gen`: files that are made from the code.
//!
//! | directory | what |
//! | --- | --- |
//! | `crds/` | the CustomResourceDefinitions |
//! | `config/` | plain manifests, for clusters without OLM: `kubectl apply -k config` |
//! | `config/tenants/` | two sets of rights for tenants, of which an admin applies one |
//! | `docs/reference/` | every field of our kinds, every condition |
//! | `bundle/` | the OLM bundle: ClusterServiceVersion, CRDs, static ClusterRoles, annotations |
//! | `olm/` | a catalog that holds the bundle, and what an admin applies to install from it |
//!
//! The prose and the examples of the bundle are kept by hand in `xtask/bundle/`.

mod catalog;
mod conditions;
mod config;
mod descriptors;
mod olm;
mod reference;
mod scorecard;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use postern_stamp::Images;

/// Makes `crds/`, `config/`, `bundle/`, `olm/` and `docs/reference/` from the code.
#[derive(Args)]
pub struct GenArgs {
    /// Write nothing; fail and name the files if they are not as the code says.
    #[arg(long)]
    check: bool,
    /// Image of the operator.
    #[arg(long, default_value = concat!("postern.dev/operator:v", env!("CARGO_PKG_VERSION")))]
    operator_image: String,
    /// Image of control planes.
    #[arg(long, default_value = concat!("postern.dev/controlplane:v", env!("CARGO_PKG_VERSION")))]
    control_plane_image: String,
    /// Image of Envoy with its supervisor.
    #[arg(long, default_value = concat!("postern.dev/proxy:v", env!("CARGO_PKG_VERSION")))]
    proxy_image: String,
    /// Image of the OLM bundle.
    #[arg(long, default_value = concat!("postern.dev/bundle:v", env!("CARGO_PKG_VERSION")))]
    bundle_image: String,
    /// Image of the catalog that holds it.
    #[arg(long, default_value = concat!("postern.dev/catalog:v", env!("CARGO_PKG_VERSION")))]
    catalog_image: String,
    /// Where to write, or what to check [default: the repository].
    #[arg(long)]
    into: Option<PathBuf>,
}

/// Directories that hold nothing but made files: others in them are removed.
const MADE: [&str; 5] = ["crds", "config", "bundle", "olm", "docs/reference"];

/// Images that the manifests name.
struct Release {
    operator: String,
    stamped: Images,
    bundle: String,
    catalog: String,
}

/// Texts by path, relative to the repository's root.
type Files = BTreeMap<PathBuf, String>;

/// Writes the files, or checks them.
pub fn run(arguments: &GenArgs) -> Result<ExitCode> {
    let release = Release {
        operator: arguments.operator_image.clone(),
        stamped: Images {
            control_plane: arguments.control_plane_image.clone(),
            proxy: arguments.proxy_image.clone(),
        },
        bundle: arguments.bundle_image.clone(),
        catalog: arguments.catalog_image.clone(),
    };
    let root = arguments.into.clone().unwrap_or_else(root);
    let differences = differences(&root, &files(&release)?)?;
    if arguments.check {
        for (path, change) in &differences {
            eprintln!(
                "{}: {}; run `cargo xtask gen`",
                path.display(),
                change.word()
            );
        }
        return Ok(if differences.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    for (path, change) in differences {
        let target = root.join(&path);
        match change {
            Change::Write(text) => {
                fs::create_dir_all(target.parent().unwrap_or(&root))?;
                fs::write(&target, text)
                    .with_context(|| format!("cannot write {}", target.display()))?;
                println!("wrote {}", path.display());
            }
            Change::Remove => {
                fs::remove_file(&target)?;
                println!("removed {}", path.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The repository's root.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// All files that are made.
fn files(release: &Release) -> Result<Files> {
    let mut files = Files::new();
    for crd in postern_api::crds::crds() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let text = text::yaml(&serde_json::to_value(&crd)?)?;
        files.insert(format!("crds/{name}.yaml").into(), text.clone());
        files.insert(format!("config/crds/{name}.yaml").into(), text.clone());
        files.insert(format!("bundle/manifests/{name}.yaml").into(), text);
    }
    files.extend(config::files(release)?);
    files.extend(config::tenants()?);
    files.insert(
        "config/kustomization.yaml".into(),
        config::kustomization(&files)?,
    );
    files.extend(olm::files(release)?);
    files.extend(reference::files()?);
    Ok(files)
}

/// What is not as it should be.
enum Change {
    Write(String),
    Remove,
}

impl Change {
    fn word(&self) -> &'static str {
        match self {
            Change::Write(_) => "is not as the code says",
            Change::Remove => "is made no more",
        }
    }
}

fn differences(root: &Path, files: &Files) -> Result<BTreeMap<PathBuf, Change>> {
    let mut found = BTreeMap::new();
    for (path, text) in files {
        let now = fs::read_to_string(root.join(path)).ok();
        if now.as_ref() != Some(text) {
            found.insert(path.clone(), Change::Write(text.clone()));
        }
    }
    for directory in MADE {
        for path in all_files(&root.join(directory))? {
            let relative = path.strip_prefix(root)?.to_owned();
            if !files.contains_key(&relative) {
                found.insert(relative, Change::Remove);
            }
        }
    }
    Ok(found)
}

fn all_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if directory.is_dir() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                found.extend(all_files(&path)?);
            } else {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
