//! How the programs are built. A change of this file is a change of what it makes: it is part of the
//! name of the folder that they are kept in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::binaries::Part;
use crate::layout::make_private_dir;

/// The parts that `node` can play, by the name it is called by.
pub(crate) const NODE_PARTS: [&str; 9] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
    "coredns",
    "netpol",
];
const CNI_PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];
/// The module whose folder holds the Gateway API's CRDs.
const GATEWAY_API: &str = "sigs.k8s.io/gateway-api";
/// The oldest version that Postern knows, of which the CRDs are kept too: what OpenShift 4.19 ships.
pub(crate) const OLD_GATEWAY_API: &str = "v1.2.1";

pub(crate) fn build(part: Part, sources: &Path, into: &Path) -> Result<()> {
    let node = sources.join("node");
    let target = format!("{}/", into.display());
    match part {
        Part::Node => {
            let program = into.join("node");
            let flags = format!("-s -w {}", version_flags(&node)?);
            let output = program.display().to_string();
            go(
                &node,
                false,
                &["build", "-ldflags", &flags, "-o", &output, "."],
            )?;
            for name in NODE_PARTS {
                symlink("node", into.join(name))?;
            }
            copy_crds(&node, GATEWAY_API, &into.join("gateway-api"))?;
            let old = format!("{GATEWAY_API}@{OLD_GATEWAY_API}");
            let to = into.join(format!("gateway-api-{OLD_GATEWAY_API}"));
            copy_crds(&node, &old, &to)
        }
        Part::Tools => {
            let own = ["./forward", "./pause", "./probe"];
            let build = ["build", "-ldflags", "-s -w", "-o", &target, "tool"];
            go(&node, false, &[&build[..], &own[..]].concat())?;
            make_private_dir(&into.join("cni"))?;
            for plugin in CNI_PLUGINS {
                fs::rename(into.join(plugin), into.join("cni").join(plugin))
                    .with_context(|| format!("CNI plugin {plugin}"))?;
            }
            Ok(())
        }
        Part::Runc => {
            // Without the tag runc refuses every profile, and no sandbox starts.
            let build = [
                "build", "-tags", "seccomp", "-ldflags", "-s -w", "-o", &target, "tool",
            ];
            go(&sources.join("runc"), true, &build)
        }
    }
}

/// Kubernetes tells its version only if the linker says it; it is read from go.mod, so the two
/// cannot differ.
fn version_flags(module: &Path) -> Result<String> {
    let version = required(
        &fs::read_to_string(module.join("go.mod"))?,
        "k8s.io/kubernetes",
    )?;
    let numbers: Vec<&str> = version.trim_start_matches('v').split('.').collect();
    let [major, minor, _] = numbers[..] else {
        bail!("version {version:?} of Kubernetes is not of three numbers");
    };
    let at = "k8s.io/component-base/version";
    Ok(format!(
        "-X {at}.gitVersion={version} -X {at}.gitMajor={major} -X {at}.gitMinor={minor}"
    ))
}

fn required(go_mod: &str, module: &str) -> Result<String> {
    go_mod
        .lines()
        .find_map(|line| {
            let mut words = line.trim().trim_start_matches("require ").split(' ');
            (words.next() == Some(module)).then(|| words.next().unwrap_or_default().to_owned())
        })
        .with_context(|| format!("go.mod requires no {module}"))
}

fn copy_crds(module: &Path, of: &str, into: &Path) -> Result<()> {
    let output = run_go(module, false, &["mod", "download", "-json", of])?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let dir = told["Dir"].as_str().context("go names no folder")?;
    for channel in ["standard", "experimental"] {
        let to = into.join(channel);
        make_private_dir(&to)?;
        let from = Path::new(dir).join("config/crd").join(channel);
        let mut copied = 0;
        for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            let path = entry.path();
            let is_yaml = path.extension().is_some_and(|end| end == "yaml");
            // Beside the CRDs lies a list of them, which is no object.
            if is_yaml && path.file_stem().is_some_and(|stem| stem != "kustomization") {
                fs::write(to.join(entry.file_name()), fs::read(entry.path())?)?;
                copied += 1;
            }
        }
        ensure!(copied > 0, "no CRDs in {}", from.display());
    }
    Ok(())
}

fn go(module: &Path, cgo: bool, arguments: &[&str]) -> Result<()> {
    run_go(module, cgo, arguments).map(|_| ())
}

/// Runs Go in a module, and says on failure what it said last.
pub(crate) fn run_go(module: &Path, cgo: bool, arguments: &[&str]) -> Result<Output> {
    let output = Command::new("go")
        .args(arguments)
        .current_dir(module)
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        // The Go that is there, no workspace around us, and no flags of the person's own.
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-buildvcs=false")
        .env_remove("GOOS")
        .env_remove("GOARCH")
        .stdin(Stdio::null())
        .output()
        .context("cannot run go")?;
    if output.status.success() {
        return Ok(output);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with("go: downloading"))
        .collect();
    bail!(
        "go {} in {} failed:\n{}",
        arguments.first().unwrap_or(&""),
        module.display(),
        lines[lines.len().saturating_sub(30)..].join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binaries::sources;

    #[test]
    fn versions_are_read_from_the_modules_themselves() {
        let flags = version_flags(&sources().join("node")).unwrap();
        assert!(flags.contains("version.gitVersion=v1."), "{flags}");
        assert!(flags.contains("gitMajor=1 "), "{flags}");
        assert!(required("require (\n\ta.b/c/d v1.2.3\n)", "a.b/c").is_err());
        assert_eq!(required("require a.b/c v1.2.3", "a.b/c").unwrap(), "v1.2.3");
    }
}
