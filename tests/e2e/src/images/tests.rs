use std::collections::BTreeSet;

use super::*;

const APT: &str = "\
'https://deb.example/b/base-files_12.4%2bdeb12u15_amd64.deb' base-files_12.4+deb12u15_amd64.deb 70936 SHA256:aa\n\
'https://deb.example/l/libgcc-s1_12.2.0-14_amd64.deb' libgcc-s1_12.2.0-14_amd64.deb 49856 SHA256:bb\n\
'https://deb.example/l/libc6_2.36-9_amd64.deb' libc6_2.36-9_amd64.deb 2759320 SHA256:cc\n\
'https://deb.example/c/ca-certificates_1%3a2025_all.deb' ca-certificates_1%3a2025_all.deb 160948 SHA256:dd\n";

fn packages(printed: &str) -> base::Packages {
    base::Packages::parse(printed).unwrap()
}

#[test]
fn packages_are_known_by_their_digests() {
    let first = packages(APT);
    assert_eq!(first.identity(), "aa dd cc bb");
    assert_eq!(
        first.about(),
        "base-files 12.4+deb12u15, ca-certificates 1:2025, libc6 2.36-9, libgcc-s1 12.2.0-14"
    );
    // An update of one is another base; a mirror is not.
    assert_ne!(
        packages(&APT.replace(":cc", ":ce")).identity(),
        "aa dd cc bb"
    );
    let mirrored = APT.replace("deb.example", "mirror.example");
    assert_eq!(packages(&mirrored).identity(), first.identity());
}

#[test]
fn a_machine_without_such_packages_is_told_in_one_line() {
    let partly: String = APT
        .lines()
        .skip(1)
        .map(|line| format!("{line}\n"))
        .collect();
    let error = base::Packages::parse(&partly).err().unwrap().to_string();
    assert!(error.contains("base-files"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn little_of_a_package_is_taken() {
    let wanted = [
        "lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/aarch64-linux-gnu/libgcc_s.so.1",
        "lib64/ld-linux-x86-64.so.2",
        "usr/share/doc/libc6/copyright",
        "usr/share/doc/libgcc-s1",
        "usr/share/common-licenses/GPL-3",
        "etc/os-release",
    ];
    let unwanted = [
        "lib/x86_64-linux-gnu/libnss_compat.so.2",
        "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so",
        "usr/share/doc/libc6/changelog.Debian.gz",
        "usr/share/doc/ca-certificates/examples/local/copyright",
        "usr/share/man/man1/sh.1.gz",
        "etc/profile.d/x.sh",
        "etc/ssl/libc.so.6",
        "bin/sh",
        "sbin/ldconfig",
    ];
    for path in wanted {
        assert!(base::wanted(Path::new(path)), "{path}");
    }
    for path in unwanted {
        assert!(!base::wanted(Path::new(path)), "{path}");
    }
}

/// A copy of a program, with one piece of its text replaced.
fn patched(dir: &Path, from: &[u8], to: &[u8]) -> PathBuf {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
    let found: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter_map(|(at, window)| (window == from).then_some(at))
        .collect();
    assert!(!found.is_empty(), "this program does not hold the text");
    for at in found {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    let path = dir.join("program");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn what_the_base_cannot_run_is_refused_in_one_line() {
    // This machine's own root is a base for what is built here.
    let root = Path::new("/");
    let dir = tempfile::tempdir().unwrap();
    base::check(root, &std::env::current_exe().unwrap()).unwrap();
    let newer = patched(dir.path(), b"\0GLIBC_2.34\0", b"\0GLIBC_9.34\0");
    let error = base::check(root, &newer).unwrap_err().to_string();
    assert!(
        error.contains("needs GLIBC_9.34, newer than the base has"),
        "{error}"
    );
    assert!(!error.contains('\n'), "{error}");
    let other = patched(dir.path(), b"\0libgcc_s.so.1\0", b"\0libgcc_x.so.1\0");
    let error = base::check(root, &other).unwrap_err().to_string();
    assert!(error.contains("needs libgcc_x.so.1"), "{error}");
    assert!(!error.contains('\n'), "{error}");
    // Found on this machine is not found in the base.
    let (lib, loader) = (dir.path().join("lib/any"), real("ld-linux"));
    fs::create_dir_all(&lib).unwrap();
    for file in [real("libc.so.6"), loader] {
        fs::copy(&file, lib.join(file.file_name().unwrap())).unwrap();
    }
    let error = base::check(dir.path(), &std::env::current_exe().unwrap()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("which the base has not"), "{error}");
}

/// A file of this machine's C library.
fn real(prefix: &str) -> PathBuf {
    let arch = std::env::consts::ARCH;
    fs::read_dir(format!("/lib/{arch}-linux-gnu"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(prefix)
        })
        .unwrap()
}

#[test]
fn a_base_has_no_bit_that_lends_rights() {
    let dir = tempfile::tempdir().unwrap();
    let set = |name: &str, mode| {
        let path = dir.path().join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    set("su", 0o4711);
    set("private", 0o600);
    base::set_modes(dir.path()).unwrap();
    let mode = |name: &str| {
        let meta = dir.path().join(name).metadata().unwrap();
        meta.permissions().mode() & 0o7777
    };
    assert_eq!(mode("su"), 0o755);
    assert_eq!(mode("private"), 0o644);
}

#[test]
fn mounts_of_others_are_left_alone() {
    let mounts = "22 1 0:20 / / rw - ext4 /dev/a rw\n\
                  23 22 0:21 / /cache/.work-1/storage rw - ext4 /dev/a rw\n\
                  24 23 0:22 / /cache/.work-1/storage/x rw - tmpfs none rw\n\
                  25 22 0:23 / /cache/.work-10 rw - tmpfs none rw\n";
    assert_eq!(
        builder::mounts_below(mounts, Path::new("/cache/.work-1")),
        [
            PathBuf::from("/cache/.work-1/storage"),
            PathBuf::from("/cache/.work-1/storage/x")
        ]
    );
}

#[test]
fn what_a_killed_build_left_is_swept() {
    let out = tempfile::tempdir().unwrap();
    let left = out.path().join(".work-1/storage");
    fs::create_dir_all(&left).unwrap();
    fs::write(out.path().join("echo.tar"), "").unwrap();
    Work::sweep(out.path()).unwrap();
    let names: Vec<_> = fs::read_dir(out.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["echo.tar"]);
}

#[test]
fn only_what_is_in_an_image_builds_it_again() {
    let dir = tempfile::tempdir().unwrap();
    for target in &TARGETS {
        fs::write(dir.path().join(target.program), target.program).unwrap();
    }
    let envoy = dir.path().join("envoy");
    fs::write(&envoy, "1").unwrap();
    let packages = packages(APT);
    let keys = |packages| -> Vec<String> {
        let inputs = Inputs::new(dir.path(), &envoy, packages).unwrap();
        TARGETS.iter().map(|target| inputs.key(target)).collect()
    };
    let changed = |one: &[String], other: &[String]| -> Vec<&str> {
        let pairs = one.iter().zip(other).zip(&TARGETS);
        pairs
            .filter(|((one, other), _)| one != other)
            .map(|(_, target)| target.name)
            .collect()
    };
    let first = keys(&packages);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), TARGETS.len());
    assert_eq!(keys(&packages), first);
    fs::write(&envoy, "2").unwrap();
    let second = keys(&packages);
    assert_eq!(changed(&first, &second), ["proxy"]);
    fs::write(dir.path().join("postern-echo"), "new").unwrap();
    assert_eq!(changed(&second, &keys(&packages)), ["echo"]);
    let updated = base::Packages::parse(&APT.replace(":cc", ":ce")).unwrap();
    assert_eq!(
        changed(&keys(&packages), &keys(&updated)).len(),
        TARGETS.len()
    );
}

/// The default of a build argument in the Containerfile.
fn default(argument: &str) -> String {
    let text = fs::read_to_string(tools::repository().join("Containerfile")).unwrap();
    let prefix = format!("ARG {argument}=");
    text.lines()
        .find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
        .unwrap()
}

#[test]
fn the_containerfile_is_of_the_versions_that_we_use() {
    let toolchain = fs::read_to_string(tools::repository().join("rust-toolchain.toml")).unwrap();
    let rust = toolchain.split('"').nth(1).unwrap();
    let builder = default("BUILDER_IMAGE");
    assert!(builder.contains(rust), "{builder} is not {rust}");
    let release = |image: String| {
        image
            .rsplit([':', '-'])
            .find(|part| *part != "slim")
            .map(str::to_owned)
    };
    assert_eq!(release(builder), release(default("BASE_IMAGE")));
    assert!(default("ENVOY_IMAGE").ends_with(tools::ENVOY));
    assert_eq!(default("VERSION"), env!("CARGO_PKG_VERSION"));
}
