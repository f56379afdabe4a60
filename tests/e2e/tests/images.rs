//! What is in our images, read from their archives, and that their programs run on what is in them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use postern_e2e::images::{self, Images};
use serde_json::Value;
use tempfile::TempDir;

/// As the tests on a real cluster: what they load is what is looked at here, and is built once.
const PROFILE: &str = "dev";

/// Target, program, what else it must hold, and how many MiB its archive may have: compressed, as it
/// is pulled. With profile `release` they are half as large, all but Envoy.
const TARGETS: [(&str, &str, &[&str], u64); 4] = [
    ("operator", "usr/local/bin/postern-operator", &[], 32),
    (
        "controlplane",
        "usr/local/bin/postern-controlplane",
        &[],
        32,
    ),
    (
        "proxy",
        "usr/local/bin/postern-proxy",
        &[ENVOY, "licenses/envoy/LICENSE", "licenses/envoy/NOTICE"],
        64,
    ),
    ("echo", "usr/local/bin/postern-echo", &[], 8),
];

const ENVOY: &str = "usr/local/bin/envoy";
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Folders that builders make besides those that they are told to use.
const SIDE_EFFECTS: [&str; 2] = ["/var/lib/containers", "/run/containers"];

/// What every image holds.
const SHARED: [&str; 8] = [
    "licenses/postern/LICENSE",
    "etc/passwd",
    "etc/group",
    "etc/nsswitch.conf",
    "etc/os-release",
    CERTIFICATES,
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
            // Said twice, `--verbose` tells owners too.
            let list = output(
                Command::new("tar")
                    .args(["--extract", "--preserve-permissions", "--numeric-owner"])
                    .args(["--verbose", "--verbose", "--file"])
                    .arg(&layer)
                    .arg("-C")
                    .arg(&root),
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
                .env_clear()
                // Where this machine has chroot.
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        )?;
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn output(command: &mut Command) -> Result<Output> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
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

/// Whether the image says what it is, and runs as nobody.
fn check_config(target: &str, program: &str, image: &Unpacked) {
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

/// Whether it holds one program and what that needs.
fn check_files(target: &str, program: &str, more: &[&str], image: &Unpacked) {
    let root = image.root();
    for file in SHARED.iter().chain([&program]).chain(more) {
        let meta = root.join(file).metadata();
        let size = meta.map(|meta| meta.len()).unwrap_or_default();
        assert!(size > 0, "{target} has no {file}");
    }
    let certificates = fs::read_to_string(root.join(CERTIFICATES)).unwrap();
    assert!(certificates.matches("BEGIN CERTIFICATE").count() > 50);
    let mut programs = Vec::new();
    walk(&root, Path::new(""), &mut |path, meta| {
        let name = path.file_name().unwrap().to_string_lossy();
        let about = path.display();
        assert!(
            meta.is_dir() || !UNWANTED.contains(&name.as_ref()),
            "{target}: {about}"
        );
        let is_library = name.contains(".so");
        if meta.is_file() && meta.mode() & 0o111 != 0 && !is_library {
            programs.push(path.to_string_lossy().into_owned());
        }
    });
    programs.sort();
    let mut wanted = vec![program.to_owned()];
    if target == "proxy" {
        wanted.push(ENVOY.into());
    }
    wanted.sort();
    assert_eq!(programs, wanted, "{target}");
}

/// Whether nothing in it lends rights, and any user may read it.
fn check_modes(target: &str, image: &Unpacked) {
    walk(&image.root(), Path::new(""), &mut |path, meta| {
        let about = format!("{target}: {} {:o}", path.display(), meta.mode());
        let kind = meta.file_type();
        // No device, no socket.
        assert!(
            kind.is_file() || kind.is_dir() || kind.is_symlink(),
            "{about}"
        );
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

/// Whether its programs run on nothing but what it holds.
fn check_runs(target: &str, program: &str, image: &Unpacked) {
    // The image's own user, and one as OpenShift picks it.
    for user in ["65532:65532", "1000660000:0"] {
        if target == "echo" {
            // It has no version of its own.
            let help = image.run(user, program, &["--help"]).unwrap();
            assert!(help.contains("--listen"), "{help}");
        } else {
            let name = program.rsplit('/').next().unwrap();
            let version = image.run(user, program, &["--version"]).unwrap();
            assert_eq!(
                version.trim(),
                format!("{name} {}", env!("CARGO_PKG_VERSION"))
            );
        }
        if target == "proxy" {
            let version = image.run(user, ENVOY, &["--version"]).unwrap();
            assert!(version.contains(postern_e2e::tools::ENVOY), "{version}");
        }
        // What is not there is missed.
        let shell = image.run(user, "bin/sh", &["-c", "true"]);
        assert!(shell.unwrap_err().to_string().contains("No such file"));
    }
}

#[test]
fn images_hold_what_they_should_and_can_be_built_again() {
    if left_out() {
        return;
    }
    let images = images::build(&images::default_dir().unwrap(), PROFILE, &|line| {
        println!("{line}");
    })
    .unwrap();
    // As they are now, whoever builds others meanwhile.
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let programs = dir.path().join("programs");
    fs::create_dir(&programs).unwrap();
    output(
        Command::new("cp")
            .arg("-a")
            .arg(images.echo.parent().unwrap())
            .arg(&out),
    )
    .unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("not run: programs inside their images: needs root (chroot)");
    }
    for (target, program, more, mib) in TARGETS {
        let archive = out.join(format!("{target}.tar"));
        let size = archive.metadata().unwrap().len() >> 20;
        assert!(size <= mib, "{target}: {size} MiB");
        let image = Unpacked::new(&archive).unwrap();
        check_config(target, program, &image);
        check_files(target, program, more, &image);
        check_modes(target, &image);
        if is_root {
            check_runs(target, program, &image);
        }
        let program = image.root().join(program);
        let name = program.file_name().unwrap();
        fs::rename(&program, programs.join(name)).unwrap();
    }
    builds_again(&out, &programs);
}

/// What did not change is not built again; what is built is the same again; nothing else is left.
fn builds_again(out: &Path, programs: &Path) {
    let inode = |target: &str| {
        let archive = out.join(format!("{target}.tar"));
        archive.metadata().unwrap().ino()
    };
    let before = TARGETS.map(|(target, ..)| inode(target));
    let (_, told) = build(out, programs);
    assert_eq!(told, ["all images are as they were"]);
    assert_eq!(TARGETS.map(|(target, ..)| inode(target)), before);

    // What it does not know the origin of is built, and nothing else.
    fs::remove_file(out.join(".echo.key")).unwrap();
    let index = |archive: &Path| Unpacked::new(archive).unwrap().index;
    let first = index(&out.join("echo.tar"));
    let exist = || SIDE_EFFECTS.map(|path| Path::new(path).exists());
    let existed = exist();
    let (images, told) = build(out, programs);
    let [base, echo] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(base.starts_with("the base is there"), "{base}");
    assert!(echo.starts_with("postern.test/echo:dev by "), "{echo}");
    // Docker gives everything the time of the build.
    if !echo.contains("docker") {
        assert_eq!(index(&images.echo), first);
    }
    assert_eq!(exist(), existed);
    let mut names: Vec<String> = fs::read_dir(out)
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
fn build(out: &Path, programs: &Path) -> (Images, Vec<String>) {
    let told = std::cell::RefCell::new(Vec::new());
    let tell = |line: &str| told.borrow_mut().push(line.to_owned());
    let images = images::from_programs(out, programs, &tell).unwrap();
    (images, told.into_inner())
}
