//! What is made once and kept in the cache, in a folder that is named by what it was made of.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::binaries::{Binaries, check_go, sources};
use crate::layout::{Lock, cache};
use crate::{Channel, go};

/// The folder `${XDG_CACHE_HOME:-~/.cache}/postern/ROOM/NAME-MADE_OF` with what `make` made in it,
/// whole or not there; one maker at a time.
///
/// # Errors
/// Where it cannot be made, or the cache cannot be written.
pub fn kept(
    room: &str,
    name: &str,
    made_of: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let root = cache()?.join(room);
    let home = root.join(format!("{name}-{made_of}"));
    if home.is_dir() {
        return Ok(home);
    }
    fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
    let _lock = Lock::take(root.join(format!(".{name}.lock")))?;
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

/// Where Go keeps a module that another one requires.
///
/// # Errors
/// Where there is no Go, or the module cannot be had.
pub fn module_dir(module: &Path, required: &str) -> Result<PathBuf> {
    let output = go(module, &["mod", "download", "-json", required])?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let dir = told["Dir"].as_str().context("go names no folder")?;
    Ok(dir.into())
}

/// A folder of the Gateway API's CRDs of a channel, as [`crate::Cluster::gateway_api_crds`], also
/// where a node's programs were never built: then it lies in Go's cache, which Go fills. It may hold
/// a `kustomization.yaml`, too.
///
/// # Errors
/// Where there is neither.
pub fn gateway_api_crds(channel: Channel) -> Result<PathBuf> {
    let built = Binaries::locate()?.crds(channel.folder(), false);
    if built.is_dir() {
        return Ok(built);
    }
    check_go()?;
    let module = module_dir(&sources().join("node"), "sigs.k8s.io/gateway-api")?;
    Ok(module.join("config/crd").join(channel.folder()))
}
