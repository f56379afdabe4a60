//! What is in our images, read from their archives, and that their programs run on what is in them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use postern_e2e::images::{self, Images};
use serde_json::Value;
use tempfile::TempDir;

/// As the tests on a real cluster: what they load is what is looked at here, and is built once.
const PROFILE: &str = "dev";

/// Target, program, what else it must hold.
const TARGETS: [(&str, &str, &[&str]); 4] = [
    ("operator", "usr/local/bin/postern-operator", &[]),
    ("controlplane", "usr/local/bin/postern-controlplane", &[]),
    (
        "proxy",
        "usr/local/bin/postern-proxy",
        &[
            "usr/local/bin/envoy",
            "licenses/envoy/LICENSE",
            "licenses/envoy/NOTICE",
        ],
    ),
    ("echo", "usr/local/bin/postern-echo", &[]),
];

/// What every image holds.
const SHARED: [&str; 8] = [
    "licenses/postern/LICENSE",
    "etc/passwd",
    "etc/group",
    "etc/nsswitch.conf",
    "etc/os-release",
    "etc/ssl/certs/ca-certificates.crt",
    "usr/share/doc/libc6/copyright",
    "var/lib/dpkg/status.d/libc6",
];

/// Labels that catalogs of images ask for.
const LABELS: [&str; 14] = [
    "name",
    "vendor",
    "version",
    "release",
    "summary",
    "description",
    "maintainer",
    "org.opencontainers.image.title",
    "org.opencontainers.image.description",
    "org.opencontainers.image.vendor",
    "org.opencontainers.image.version",
    "org.opencontainers.image.licenses",
    "org.opencontainers.image.url",
    "org.opencontainers.image.source",
];

/// Programs that run others or change the system: none of ours needs one.
const UNWANTED: [&str; 12] = [
    "sh", "bash", "dash", "ash", "busybox", "env", "perl", "python3", "apt-get", "dpkg", "su",
    "mount",
];

/// Whether what takes whole images is not wanted here, which is then said.
fn left_out() -> bool {
    let off = std::env::var("POSTERN_E2E").is_ok_and(|wish| wish == "off");
    if off {
        println!("not run: container images: POSTERN_E2E=off; `make test` runs it");
    }
    off
}

/// The images, built once for all tests of this file.
fn built() -> &'static Images {
    static BUILT: OnceLock<Images> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = images::default_dir().unwrap();
        images::build(&out, PROFILE, &|line| println!("{line}")).unwrap()
    })
}

/// An archive, unpacked.
struct Unpacked {
    dir: TempDir,
    index: Value,
    config: Value,
    /// What `tar` says of each thing in each layer, with numbers for users.
    listed: Vec<String>,
}

impl Unpacked {
    fn new(archive: &Path) -> Result<Unpacked> {
        let dir = tempfile::tempdir()?;
        let oci = dir.path().join("oci");
        let root = dir.path().join("root");
        fs::create_dir(&oci)?;
        fs::create_dir(&root)?;
        // A root that another user may enter, as a container's is.
        fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        output(
            Command::new("tar")
                .arg("-xf")
                .arg(archive)
                .arg("-C")
                .arg(&oci),
        )?;
        let index: Value = serde_json::from_slice(&fs::read(oci.join("index.json"))?)?;
        let blob = |descriptor: &Value| -> Result<PathBuf> {
            let digest = descriptor["digest"].as_str().context("no digest")?;
            Ok(oci.join("blobs").join(digest.replace(':', "/")))
        };
        let manifest: Value = serde_json::from_slice(&fs::read(blob(&index["manifests"][0])?)?)?;
        let config = serde_json::from_slice(&fs::read(blob(&manifest["config"])?)?)?;
        let mut listed = Vec::new();
        for layer in manifest["layers"].as_array().context("no layers")? {
            let layer = blob(layer)?;
            output(
                Command::new("tar")
                    .args(["--extract", "--preserve-permissions", "--file"])
                    .arg(&layer)
                    .arg("-C")
                    .arg(&root),
            )?;
            let list = output(
                Command::new("tar")
                    .args(["--numeric-owner", "-tvf"])
                    .arg(&layer),
            )?;
            listed.extend(String::from_utf8(list.stdout)?.lines().map(str::to_owned));
        }
        Ok(Unpacked {
            dir,
            index,
            config,
            listed,
        })
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Runs a program of it, as this user and group, with nothing else in sight.
    fn run(&self, user: &str, program: &str, arguments: &[&str]) -> Result<String> {
        let output = output(
            Command::new("chroot")
                .arg(format!("--userspec={user}"))
                .arg("--groups=")
                .arg(self.root())
                .arg(format!("/{program}"))
                .args(arguments)
                .env_clear(),
        )?;
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn output(command: &mut Command) -> Result<Output> {
    // Not the image's but this machine's programs.
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

fn unpacked() -> BTreeMap<&'static str, Unpacked> {
    let archives = built().all();
    let pairs = TARGETS.iter().zip(archives);
    pairs
        .map(|((target, ..), archive)| (*target, Unpacked::new(archive).unwrap()))
        .collect()
}

/// Each file below, with its path from the top.
fn walk(top: &Path, at: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) {
    for entry in fs::read_dir(top.join(at)).unwrap() {
        let entry = entry.unwrap();
        let path = at.join(entry.file_name());
        let meta = entry.path().symlink_metadata().unwrap();
        visit(&path, &meta);
        if meta.is_dir() {
            walk(top, &path, visit);
        }
    }
}

#[test]
fn images_say_what_they_are_and_run_as_nobody() {
    if left_out() {
        return;
    }
    for (target, image) in unpacked() {
        let (_, program, _) = TARGETS.iter().find(|(name, ..)| *name == target).unwrap();
        let config = &image.config["config"];
        assert_eq!(config["User"], "65532:65532", "{target}");
        assert_eq!(
            config["Entrypoint"],
            serde_json::json!([format!("/{program}")])
        );
        assert_eq!(image.config["os"], "linux");
        for label in LABELS {
            let value = config["Labels"][label].as_str().unwrap_or_default();
            assert!(!value.is_empty(), "{target} has no label {label}");
        }
        assert_eq!(config["Labels"]["name"], format!("postern/{target}"));
        assert_eq!(config["Labels"]["version"], env!("CARGO_PKG_VERSION"));
        let annotations = &image.index["manifests"][0]["annotations"];
        assert_eq!(
            annotations["org.opencontainers.image.ref.name"],
            images::reference(target)
        );
    }
}

#[test]
fn images_hold_one_program_and_what_it_needs() {
    if left_out() {
        return;
    }
    for (target, image) in unpacked() {
        let (_, program, more) = TARGETS.iter().find(|(name, ..)| *name == target).unwrap();
        let root = image.root();
        for file in SHARED.iter().chain([program]).chain(*more) {
            let meta = root.join(file).metadata();
            let size = meta.map(|meta| meta.len()).unwrap_or_default();
            assert!(size > 0, "{target} has no {file}");
        }
        let certificates = fs::read_to_string(root.join(SHARED[5])).unwrap();
        assert!(certificates.matches("BEGIN CERTIFICATE").count() > 50);
        let mut programs = Vec::new();
        walk(&root, Path::new(""), &mut |path, meta| {
            let name = path.file_name().unwrap().to_string_lossy();
            assert!(
                !UNWANTED.contains(&name.as_ref()),
                "{target}: {}",
                path.display()
            );
            let is_library = name.contains(".so");
            if meta.is_file() && meta.mode() & 0o111 != 0 && !is_library {
                programs.push(path.to_string_lossy().into_owned());
            }
        });
        programs.sort();
        let mut wanted = vec![(*program).to_owned()];
        if target == "proxy" {
            wanted.push("usr/local/bin/envoy".into());
        }
        wanted.sort();
        assert_eq!(programs, wanted, "{target}");
    }
}

#[test]
fn nothing_in_an_image_lends_rights() {
    if left_out() {
        return;
    }
    for (target, image) in unpacked() {
        walk(&image.root(), Path::new(""), &mut |path, meta| {
            let about = format!("{target}: {} {:o}", path.display(), meta.mode());
            let kind = meta.file_type();
            assert!(
                kind.is_file() || kind.is_dir() || kind.is_symlink(),
                "{about}"
            );
            assert!(!kind.is_block_device() && !kind.is_char_device(), "{about}");
            if kind.is_symlink() {
                return;
            }
            let is_tmp = path == Path::new("tmp");
            assert_eq!(meta.mode() & 0o6000, 0, "{about}");
            assert!(is_tmp || meta.mode() & 0o022 == 0, "{about}");
            // OpenShift picks a user of its own: it must be able to read all.
            assert_eq!(meta.mode() & 0o444, 0o444, "{about}");
        });
        assert!(image.listed.len() > 20);
        for line in &image.listed {
            let owner = line.split_whitespace().nth(1).unwrap();
            assert_eq!(owner, "0/0", "{target}: {line}");
        }
    }
}

#[test]
fn programs_run_on_what_their_image_holds() {
    if left_out() {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("not run: needs root (chroot)");
        return;
    }
    // The image's own user, and one as OpenShift picks it.
    let users = ["65532:65532", "1000660000:0"];
    let images = unpacked();
    for user in users {
        for (target, program, _) in TARGETS {
            let image = &images[target];
            let name = program.rsplit('/').next().unwrap();
            if target == "echo" {
                // It has no version of its own.
                let help = image.run(user, program, &["--help"]).unwrap();
                assert!(help.contains("--listen"), "{help}");
                continue;
            }
            let version = image.run(user, program, &["--version"]).unwrap();
            assert_eq!(version.trim(), concat_version(name));
        }
        let version = images["proxy"]
            .run(user, "usr/local/bin/envoy", &["--version"])
            .unwrap();
        assert!(version.contains(postern_e2e::tools::ENVOY), "{version}");
    }
    // The proof that a program is missed where it is not.
    assert!(
        images["echo"]
            .run(users[0], "bin/sh", &["-c", "true"])
            .is_err()
    );
}

fn concat_version(name: &str) -> String {
    format!("{name} {}", env!("CARGO_PKG_VERSION"))
}

#[test]
fn images_are_small() {
    if left_out() {
        return;
    }
    // Compressed, as they are pulled. With profile `release` they are half as large, all but Envoy.
    let most = [
        ("operator", 32),
        ("controlplane", 32),
        ("proxy", 64),
        ("echo", 8),
    ];
    for ((target, limit), archive) in most.into_iter().zip(built().all()) {
        let size = archive.metadata().unwrap().len() >> 20;
        assert!(size <= limit, "{target}: {size} MiB");
    }
}

/// Folders that builders make besides those that they are told to use.
const SIDE_EFFECTS: [&str; 2] = ["/var/lib/containers", "/run/containers"];

#[test]
fn what_did_not_change_is_not_built_again() {
    if left_out() {
        return;
    }
    let images = built();
    let files = |images: &Images| images.all().map(|path| path.metadata().unwrap().ino());
    let before = files(images);
    let again = build(images.echo.parent().unwrap());
    assert_eq!(again.1.last().unwrap(), "all images are as they were");
    assert_eq!(&again.0, images);
    assert_eq!(files(&again.0), before);
}

#[test]
fn a_build_makes_the_same_again_and_leaves_nothing() {
    if left_out() {
        return;
    }
    let images = built();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let from = images.echo.parent().unwrap();
    output(Command::new("cp").arg("-a").arg(from).arg(&out)).unwrap();
    // What it does not know the origin of is built, and nothing else.
    fs::remove_file(out.join(".echo.key")).unwrap();
    let exist = || SIDE_EFFECTS.map(|path| Path::new(path).exists());
    let before = exist();
    let (again, told) = build(&out);
    let echo = told.last().unwrap();
    assert!(echo.starts_with("postern.test/echo:dev by "), "{told:?}");
    assert!(
        !told.iter().any(|line| line.contains("postern.test/proxy")),
        "{told:?}"
    );
    // Docker gives everything the time of the build.
    if !echo.contains("docker") {
        let index = |archive| Unpacked::new(archive).unwrap().index;
        assert_eq!(index(&again.echo), index(&images.echo));
    }
    assert_eq!(exist(), before);
    let mut names: Vec<String> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.ends_with(".tar") && !name.ends_with(".key"))
        .collect();
    names.sort();
    assert_eq!(names, [".base", ".lock"]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(out.to_str().unwrap()), "{mounts}");
}

/// The images in this folder, and what the build told.
fn build(out: &Path) -> (Images, Vec<String>) {
    let told = std::cell::RefCell::new(Vec::new());
    let tell = |line: &str| told.borrow_mut().push(line.to_owned());
    let images = images::build(out, PROFILE, &tell).unwrap();
    (images, told.into_inner())
}
