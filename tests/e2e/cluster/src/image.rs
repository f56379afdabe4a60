//! Images without a registry: an OCI archive is a tar of a few small files around the layers.
//!
//! Source: OCI Image Format Specification 1.1, `image-layout.md`, `manifest.md`, `config.md`,
//! `layer.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// One thing in a layer. Paths are inside the image, with or without a leading slash; everything
/// belongs to root.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A file with these bytes and this mode.
    Bytes(PathBuf, Vec<u8>, u32),
    /// A file read from this machine, with this mode: inside, here, mode.
    File(PathBuf, PathBuf, u32),
    /// A folder with this mode.
    Dir(PathBuf, u32),
    /// A symbolic link: inside, target.
    Link(PathBuf, PathBuf),
    /// A folder of this machine with all below it: inside, here.
    Tree(PathBuf, PathBuf),
}

/// What to run, and what the image says of itself.
#[derive(Clone, Debug, Default)]
pub struct ImageConfig {
    /// The command, with its arguments.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// User, as a number where pods say `runAsNonRoot`.
    pub user: String,
    /// Where the command starts; the root if empty.
    pub working_dir: String,
    /// Labels.
    pub labels: Vec<(String, String)>,
}

/// Writes an OCI archive of one image, named in full (`host/path:tag`), to `path`.
///
/// Times are zero and the order is as given: equal input makes equal bytes.
///
/// # Errors
/// Where a file cannot be read or written, or a path leaves the image.
pub fn oci_archive(
    path: &Path,
    name: &str,
    layers: &[Vec<Entry>],
    config: &ImageConfig,
) -> Result<()> {
    let (_, tag) = name
        .rsplit_once(':')
        .filter(|(host, tag)| host.contains('/') && !tag.contains('/'))
        .with_context(|| format!("{name:?} is not of the form host/path:tag"))?;
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut archive = Builder::new(BufWriter::new(file));
    let mut written: Vec<String> = Vec::new();
    let mut descriptors = Vec::new();
    for layer in layers {
        let mut blob = write_layer(layer)?;
        descriptors.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": blob.digest,
            "size": blob.size,
        }));
        // The same layer twice is one blob.
        if !written.contains(&blob.digest) {
            add(
                &mut archive,
                &blob_path(&blob.digest),
                blob.size,
                &mut blob.file,
            )?;
        }
        written.push(blob.digest);
    }
    let labels: BTreeMap<_, _> = config.labels.iter().cloned().collect();
    let image = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": config.entrypoint,
            "Env": config.env,
            "User": config.user,
            "WorkingDir": config.working_dir,
            "Labels": labels,
        },
        // Layers are not compressed, so what a layer holds has the digest of its blob.
        "rootfs": {"type": "layers", "diff_ids": written},
    });
    let image = add_json(&mut archive, "config", &image)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": image,
        "layers": descriptors,
    });
    let mut manifest = add_json(&mut archive, "manifest", &manifest)?;
    manifest["annotations"] = json!({
        // What containerd calls the image, and what other readers go by.
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    add_bytes(&mut archive, "index.json", &serde_json::to_vec(&index)?)?;
    add_bytes(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    archive.into_inner()?.flush()?;
    Ok(())
}

/// A layer, written to a file that has no name.
struct Blob {
    digest: String,
    size: u64,
    file: File,
}

fn write_layer(entries: &[Entry]) -> Result<Blob> {
    let mut tar = Builder::new(Hashing {
        to: BufWriter::new(tempfile::tempfile()?),
        hash: Sha256::new(),
        size: 0,
    });
    let mut dirs = BTreeSet::new();
    for entry in entries {
        match entry {
            Entry::Bytes(at, bytes, mode) => {
                let at = inside(&mut tar, &mut dirs, at)?;
                let header = header(EntryType::Regular, *mode, bytes.len() as u64);
                append(&mut tar, header, &at, bytes.as_slice())?;
            }
            Entry::File(at, from, mode) => {
                let at = inside(&mut tar, &mut dirs, at)?;
                append_file(&mut tar, &at, from, *mode)?;
            }
            Entry::Dir(at, mode) => {
                let at = inside(&mut tar, &mut dirs, at)?;
                append_dir(&mut tar, &mut dirs, &at, *mode)?;
            }
            Entry::Link(at, target) => {
                let at = inside(&mut tar, &mut dirs, at)?;
                append_link(&mut tar, &at, target)?;
            }
            Entry::Tree(at, from) => {
                let at = inside(&mut tar, &mut dirs, &at.join("."))?;
                append_tree(&mut tar, &mut dirs, &at, from)?;
            }
        }
    }
    let done = tar.into_inner()?;
    let digest = done.hash.finalize();
    let mut file = done.to.into_inner()?;
    file.rewind()?;
    Ok(Blob {
        digest: hex(&digest),
        size: done.size,
        file,
    })
}

type Layer = Builder<Hashing>;

/// The path as tar wants it, with the folders above it in the layer.
fn inside(tar: &mut Layer, dirs: &mut BTreeSet<PathBuf>, path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                anyhow::bail!("{} leaves the image", path.display())
            }
        }
    }
    let above: Vec<_> = clean.ancestors().skip(1).map(Path::to_owned).collect();
    for dir in above.into_iter().rev().filter(|dir| *dir != Path::new("")) {
        append_dir(tar, dirs, &dir, 0o755)?;
    }
    Ok(clean)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append(tar: &mut Layer, mut header: Header, at: &Path, from: impl Read) -> Result<()> {
    tar.append_data(&mut header, at, from)
        .with_context(|| at.display().to_string())
}

fn append_file(tar: &mut Layer, at: &Path, from: &Path, mode: u32) -> Result<()> {
    let file = File::open(from).with_context(|| from.display().to_string())?;
    let size = file.metadata()?.len();
    append(
        tar,
        header(EntryType::Regular, mode, size),
        at,
        file.take(size),
    )
}

fn append_dir(tar: &mut Layer, dirs: &mut BTreeSet<PathBuf>, at: &Path, mode: u32) -> Result<()> {
    if at != Path::new("") && dirs.insert(at.to_owned()) {
        append(tar, header(EntryType::Directory, mode, 0), at, io::empty())?;
    }
    Ok(())
}

fn append_link(tar: &mut Layer, at: &Path, target: &Path) -> Result<()> {
    let mut header = header(EntryType::Symlink, 0o777, 0);
    tar.append_link(&mut header, at, target)
        .with_context(|| at.display().to_string())
}

fn append_tree(
    tar: &mut Layer,
    dirs: &mut BTreeSet<PathBuf>,
    at: &Path,
    from: &Path,
) -> Result<()> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut paths = std::fs::read_dir(from)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    append_dir(tar, dirs, at, 0o755)?;
    for path in list().with_context(|| from.display().to_string())? {
        let at = at.join(path.file_name().context("no name")?);
        let meta = path.symlink_metadata()?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_symlink() {
            append_link(tar, &at, &std::fs::read_link(&path)?)?;
        } else if meta.is_dir() {
            append_dir(tar, dirs, &at, mode)?;
            append_tree(tar, dirs, &at, &path)?;
        } else {
            ensure!(meta.is_file(), "{} is no plain file", path.display());
            append_file(tar, &at, &path, mode)?;
        }
    }
    Ok(())
}

/// Counts and hashes what goes through.
struct Hashing {
    to: BufWriter<File>,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn hex(digest: &[u8]) -> String {
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// Go's name for this machine's processor, which images and nodes use.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

type Archive = Builder<BufWriter<File>>;

fn add(archive: &mut Archive, at: &str, size: u64, from: impl Read) -> Result<()> {
    let mut header = header(EntryType::Regular, 0o644, size);
    archive.append_data(&mut header, at, from)?;
    Ok(())
}

fn add_bytes(archive: &mut Archive, at: &str, bytes: &[u8]) -> Result<()> {
    add(archive, at, bytes.len() as u64, bytes)
}

/// Adds a document as a blob and returns its descriptor.
fn add_json(archive: &mut Archive, kind: &str, document: &Value) -> Result<Value> {
    let bytes = serde_json::to_vec(document)?;
    let digest = hex(&Sha256::digest(&bytes));
    add_bytes(archive, &blob_path(&digest), &bytes)?;
    Ok(json!({
        "mediaType": format!("application/vnd.oci.image.{kind}.v1+json"),
        "digest": digest,
        "size": bytes.len(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: impl Read) -> BTreeMap<String, (Vec<u8>, u32)> {
        let mut archive = tar::Archive::new(from);
        let mut found = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mode = entry.header().mode().unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(found.insert(path, (bytes, mode)).is_none(), "twice");
        }
        found
    }

    fn example() -> Vec<Vec<Entry>> {
        let layer = vec![
            Entry::Bytes("/usr/bin/a".into(), b"program".to_vec(), 0o755),
            Entry::Bytes("usr/share/b".into(), b"data".to_vec(), 0o644),
            Entry::Link("/a".into(), "usr/bin/a".into()),
            Entry::Dir("/tmp".into(), 0o1777),
        ];
        vec![layer.clone(), layer]
    }

    #[test]
    fn an_archive_leads_from_its_index_to_each_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        let config = ImageConfig {
            entrypoint: vec!["/a".into()],
            user: "65532".into(),
            ..ImageConfig::default()
        };
        oci_archive(&path, "postern.test/a:dev", &example(), &config).unwrap();
        let files = read(File::open(&path).unwrap());
        let document = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = &files[&blob_path(digest)].0;
            assert_eq!(hex(&Sha256::digest(bytes)), digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        let index = document(&files["index.json"].0);
        let manifest = &index["manifests"][0];
        assert_eq!(
            manifest["annotations"]["io.containerd.image.name"],
            "postern.test/a:dev"
        );
        let manifest = document(&blob(manifest));
        let image = document(&blob(&manifest["config"]));
        assert_eq!(image["config"]["User"], "65532");
        assert_eq!(image["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
        assert_eq!(
            image["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
        let layer = read(blob(&manifest["layers"][0]).as_slice());
        let names: Vec<_> = layer.keys().map(String::as_str).collect();
        let wanted = [
            "a",
            "tmp",
            "usr",
            "usr/bin",
            "usr/bin/a",
            "usr/share",
            "usr/share/b",
        ];
        assert_eq!(names, wanted);
        assert_eq!(layer["usr/bin/a"], (b"program".to_vec(), 0o755));
        assert_eq!(layer["tmp"].1, 0o1777);
    }

    #[test]
    fn equal_input_makes_equal_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            oci_archive(&path, "a/b:c", &example(), &ImageConfig::default()).unwrap();
            std::fs::read(path).unwrap()
        };
        assert_eq!(make("one"), make("two"));
    }

    #[test]
    fn folders_of_the_machine_are_taken_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("lib/x")).unwrap();
        std::fs::write(dir.path().join("lib/x/libc.so"), "elf").unwrap();
        std::os::unix::fs::symlink("lib/x", dir.path().join("lib64")).unwrap();
        let mut blob = write_layer(&[Entry::Tree("/opt".into(), dir.path().into())]).unwrap();
        let mut bytes = Vec::new();
        blob.file.read_to_end(&mut bytes).unwrap();
        let files = read(bytes.as_slice());
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        let wanted = [
            "opt",
            "opt/lib",
            "opt/lib/x",
            "opt/lib/x/libc.so",
            "opt/lib64",
        ];
        assert_eq!(names, wanted);
        assert_eq!(files["opt/lib/x/libc.so"].0, b"elf");
    }

    #[test]
    fn nothing_leaves_the_image_and_names_are_whole() {
        let up = [Entry::Dir("/a/../../etc".into(), 0o755)];
        assert!(write_layer(&up).is_err());
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "a:b", "host:5000/a", "host/a"] {
            let path = dir.path().join("i");
            let made = oci_archive(&path, name, &[], &ImageConfig::default());
            assert!(made.is_err(), "{name} was taken");
        }
    }
}
