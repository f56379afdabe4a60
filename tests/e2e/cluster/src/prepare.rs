//! What the machine must have, looked at before anything is done: each refusal is one line that
//! says the way out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use crate::binaries::Part;
use crate::progress::Progress;

/// Free space for a first build: Go's caches take 4 GiB, the programs and a cluster the rest.
const SPACE_TO_BUILD: u64 = 6 << 30;
/// Free space for a cluster whose programs are there.
const SPACE_TO_RUN: u64 = 1 << 30;

/// A program that must be there, and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 7] = [
    Tool {
        program: "ip",
        package: "iproute2",
    },
    Tool {
        program: "ipset",
        package: "ipset",
    },
    Tool {
        program: "iptables",
        package: "iptables",
    },
    Tool {
        program: "mount",
        package: "mount",
    },
    Tool {
        program: "nft",
        package: "nftables",
    },
    Tool {
        program: "nsenter",
        package: "util-linux",
    },
    Tool {
        program: "unshare",
        package: "util-linux",
    },
];
const BUILD_TOOLS: [Tool; 2] = [
    Tool {
        program: "gcc",
        package: "gcc",
    },
    Tool {
        program: "pkg-config",
        package: "pkg-config",
    },
];

/// A node needs root: namespaces, mounts, cgroups.
pub(crate) fn check_root() -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "a node needs root: run this as root, or `up --light` for an API server alone"
    );
    Ok(())
}

/// Free space where the cluster is kept and built.
pub(crate) fn check_space(cache: &Path, must_build: bool) -> Result<()> {
    let needed = if must_build {
        SPACE_TO_BUILD
    } else {
        SPACE_TO_RUN
    };
    let there = cache
        .ancestors()
        .find(|dir| dir.exists())
        .context("no folder above the cache exists")?;
    let stat = statvfs(there).with_context(|| there.display().to_string())?;
    let free = stat.blocks_available() * stat.fragment_size();
    ensure!(
        free >= needed,
        "{} has {:.1} GiB free, {} GiB are needed: make room, or set XDG_CACHE_HOME (and GOCACHE, \
         GOMODCACHE) to a larger disk",
        there.display(),
        gib(free),
        needed >> 30
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// The Debian packages that are missing.
pub(crate) fn missing_packages(build: &[Part]) -> Vec<&'static str> {
    let mut missing: Vec<_> = TOOLS
        .iter()
        .chain(BUILD_TOOLS.iter().filter(|_| build.contains(&Part::Runc)))
        .filter(|tool| !on_path(tool.program))
        .map(|tool| tool.package)
        .collect();
    if build.contains(&Part::Runc) && !has_seccomp_headers() {
        missing.push("libseccomp-dev");
    }
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn on_path(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|dir| !dir.is_empty() && Path::new(dir).join(program).exists())
}

fn has_seccomp_headers() -> bool {
    quiet(Command::new("pkg-config").args(["--exists", "libseccomp"]))
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Installs Debian packages, none of which starts a service.
pub(crate) fn install(packages: &[&str], progress: &Progress) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    ensure!(
        on_path("apt-get"),
        "these programs' packages are missing and there is no apt-get: install {}",
        packages.join(" ")
    );
    progress.stage(&format!("installing {}", packages.join(" ")));
    let apt = |arguments: &[&str]| {
        let output = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .context("cannot run apt-get")?;
        let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok::<_, anyhow::Error>((output.status.success(), told))
    };
    let install = [&["install", "-y", "--no-install-recommends"], packages].concat();
    if apt(&install)?.0 {
        return Ok(());
    }
    // The lists may be old or were never fetched.
    apt(&["update"])?;
    let (done, told) = apt(&install)?;
    ensure!(
        done,
        "apt-get cannot install {}: {told}",
        packages.join(" ")
    );
    Ok(())
}

/// Tries what a node needs of the kernel, in namespaces that are gone right after.
pub(crate) fn check_kernel(state: &Path) -> Result<()> {
    let trials = [
        (
            "network namespaces",
            "true",
            "run on the machine itself or in a privileged container",
        ),
        (
            "the bridge device",
            "ip link add b0 type bridge",
            "modprobe bridge",
        ),
        (
            "veth devices",
            "ip link add v0 type veth peer name v1",
            "modprobe veth",
        ),
        (
            "nf_tables",
            "nft add table ip t && nft add chain ip t c '{ type nat hook prerouting priority 0 ; }'",
            "modprobe nf_tables nft_chain_nat",
        ),
        (
            "iptables",
            "iptables -t filter -L -n",
            "modprobe ip_tables iptable_filter nf_tables",
        ),
        (
            "ipset",
            "ipset create s hash:ip && iptables -A INPUT -m set --match-set s src -j DROP",
            "modprobe ip_set ip_set_hash_ip xt_set",
        ),
        (
            "bridged traffic in iptables",
            "test -e /proc/sys/net/bridge/bridge-nf-call-iptables",
            "modprobe br_netfilter",
        ),
    ];
    for (what, trial, way_out) in trials {
        let output = Command::new("unshare")
            .args(["--net", "--", "/bin/sh", "-c", trial])
            .env("PATH", path_with_sbin())
            .stdin(Stdio::null())
            .output()
            .context("cannot run unshare")?;
        refuse_unless(&output, what, way_out)?;
    }
    // An overlay on a file system that cannot carry one (another overlay, say) fails too.
    let dirs = ["lower", "upper", "work", "merged"].map(|dir| state.join("trial").join(dir));
    for dir in &dirs {
        fs::create_dir_all(dir)?;
    }
    let [lower, upper, work, merged] = dirs.map(|dir| dir.display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let output = Command::new("unshare")
        .args([
            "--mount", "--", "mount", "-t", "overlay", "overlay", "-o", &options, &merged,
        ])
        .env("PATH", path_with_sbin())
        .stdin(Stdio::null())
        .output()
        .context("cannot run unshare")?;
    fs::remove_dir_all(state.join("trial"))?;
    let way_out = "modprobe overlay, or set XDG_CACHE_HOME to a disk that is no overlay itself";
    refuse_unless(&output, "overlay mounts below the state folder", way_out)?;
    ensure!(
        Path::new("/dev/kmsg").exists(),
        "the kubelet needs /dev/kmsg: run on the machine itself or pass that device in"
    );
    Ok(())
}

fn refuse_unless(output: &std::process::Output, what: &str, way_out: &str) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let reason = told.lines().last().unwrap_or("no reason given").trim();
    bail!("this kernel has no {what} for us ({reason}): {way_out}")
}

fn path_with_sbin() -> String {
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_is_refused_with_a_way_out() {
        // proc has no blocks at all.
        let error = check_space(Path::new("/proc/self/no/such"), true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("XDG_CACHE_HOME"), "{error}");
        assert!(error.contains("6 GiB"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn programs_are_looked_for_where_administrators_keep_them() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-of-anybody"));
    }

    #[test]
    fn a_kernel_without_something_is_refused_in_one_line() {
        let output = Command::new("sh")
            .args([
                "-c",
                "echo first >&2; echo Unknown device type. >&2; exit 2",
            ])
            .output()
            .unwrap();
        let error = refuse_unless(&output, "bridge", "modprobe bridge").unwrap_err();
        assert_eq!(
            error.to_string(),
            "this kernel has no bridge for us (Unknown device type.): modprobe bridge"
        );
    }
}
