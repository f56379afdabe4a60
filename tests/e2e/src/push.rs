//! Images to a registry, by `go-containerregistry` (`tests/e2e/push/go`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, ensure};

use postern_cluster::Cluster;

use crate::images::reference;
use crate::tools::repository;

/// A registry, with the path in it below which images go: `HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry(String);

impl Registry {
    /// Where the image of a target goes.
    #[must_use]
    pub fn repository(&self, target: &str) -> String {
        format!("{}/{target}", self.0)
    }

    /// Whether it is on this machine: only then it may do without TLS.
    fn is_loopback(&self) -> bool {
        let authority = self.0.split('/').next().unwrap_or_default();
        let host = match authority.strip_prefix('[') {
            Some(address) => address.split(']').next(),
            None => authority.split(':').next(),
        };
        let host = host.unwrap_or_default();
        host == "localhost"
            || host
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Registry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        ensure!(
            !text.contains("://"),
            "a registry is named without {}",
            &text[..text.find("://").unwrap_or_default() + 3]
        );
        let mut parts = text.split('/');
        let host = parts.next().unwrap_or_default();
        ensure!(
            host == "localhost" || host.contains(['.', ':']),
            "a registry begins with its host (docker.io/…, 127.0.0.1:5000), {host:?} is none"
        );
        let in_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
        ensure!(host.chars().all(in_host), "{host:?} is no host");
        let in_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
        for part in parts {
            ensure!(
                !part.is_empty() && part.chars().all(in_path),
                "below its host a registry's path holds a-z, 0-9, -, . and _: {part:?} does not fit"
            );
        }
        Ok(Registry(text.to_owned()))
    }
}

/// What pushes images, built.
#[derive(Debug)]
pub struct Pusher(PathBuf);

impl Pusher {
    /// Builds it where it is missing: half a minute, once.
    ///
    /// # Errors
    /// Where there is no Go, or it does not build.
    pub fn built() -> Result<Pusher> {
        let module = repository().join("tests/e2e/push/go");
        let made_of = postern_cluster::fingerprint("", &module)?;
        let dir = postern_cluster::kept("push", "push", &made_of, |into| {
            let output = into.join("push").display().to_string();
            let build = ["build", "-ldflags", "-s -w", "-o", &output, "."];
            postern_cluster::go(&module, &build).map(|_| ())
        })?;
        Ok(Pusher(dir.join("push")))
    }

    /// A command that will push an archive's image as `repository:tag`, and print its digest.
    #[must_use]
    pub fn command(&self, archive: &Path, registry: &Registry, target: &str, tag: &str) -> Command {
        let mut command = Command::new(&self.0);
        if registry.is_loopback() {
            command.arg("-plain");
        }
        command
            .arg(archive)
            .arg(format!("{}:{tag}", registry.repository(target)))
            .stdin(Stdio::null());
        command
    }

    /// Pushes an archive's image as `target:tag`, from the network of a cluster if one is given, and returns
    /// what a cluster calls it: by its digest.
    ///
    /// # Errors
    /// Where the registry does not take it, or answers without TLS and is not on this machine.
    pub fn push(
        &self,
        archive: &Path,
        registry: &Registry,
        target: &str,
        tag: &str,
        within: Option<&Cluster>,
    ) -> Result<String> {
        let mut command = self.command(archive, registry, target, tag);
        if let Some(cluster) = within {
            let mut inside = cluster.command(&command.get_program().to_string_lossy());
            inside.args(command.get_args()).stdin(Stdio::null());
            command = inside;
        }
        pushed(&mut command, registry, target)
    }

    /// Pushes the images of targets, as [`Pusher::push`] does.
    ///
    /// # Errors
    /// As for [`Pusher::push`].
    pub fn push_all(
        &self,
        images: &[(&'static str, &Path)],
        registry: &Registry,
        within: Option<&Cluster>,
    ) -> Result<Named> {
        let push = |&(target, archive): &(&'static str, &Path)| {
            let name = self.push(archive, registry, target, "dev", within)?;
            Ok((target, name))
        };
        images.iter().map(push).collect::<Result<_>>().map(Named)
    }
}

/// What a cluster calls the images of targets: those that were pushed by their digests, others by the
/// name that they have when they are loaded ([`reference`]).
#[derive(Clone, Debug, Default)]
pub struct Named(BTreeMap<&'static str, String>);

impl Named {
    /// The image of a target.
    #[must_use]
    pub fn of(&self, target: &str) -> String {
        self.0
            .get(target)
            .cloned()
            .unwrap_or_else(|| reference(target))
    }
}

/// What a cluster calls an image that this command pushes.
///
/// # Errors
/// Where it fails.
pub fn pushed(command: &mut Command, registry: &Registry, target: &str) -> Result<String> {
    let output = command.output().context("cannot run what pushes images")?;
    let repository = registry.repository(target);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cannot push {repository}: {}",
        said.trim()
    );
    let digest = String::from_utf8(output.stdout)?;
    Ok(format!("{repository}@{}", digest.trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn registry(text: &str) -> Result<Registry> {
        text.parse()
    }

    #[test]
    fn registries_are_named_as_images_are() {
        let at = |text: &str| registry(text).unwrap().repository("proxy");
        assert_eq!(at("127.0.0.1:5000"), "127.0.0.1:5000/proxy");
        assert_eq!(at("localhost/x"), "localhost/x/proxy");
        assert_eq!(
            at("registry.example/team-a/p"),
            "registry.example/team-a/p/proxy"
        );
    }

    #[test]
    fn what_is_no_registry_is_told_in_a_line() {
        for (bad, why) in [
            ("", "begins with its host"),
            ("team", "begins with its host"),
            ("team/a", "docker.io/"),
            ("https://registry.example", "without https://"),
            ("registry.example/", "does not fit"),
            ("registry.example//a", "does not fit"),
            ("registry.example/A", "does not fit"),
            ("registry.example/a:v1", "does not fit"),
            ("registry.example/a@sha256", "does not fit"),
            ("a.b c", "is no host"),
            ("a.b;c", "is no host"),
        ] {
            let error = registry(bad).unwrap_err().to_string();
            assert!(
                error.contains(why) && !error.contains('\n'),
                "{bad:?}: {error}"
            );
        }
    }

    #[test]
    fn only_this_machine_may_do_without_tls() {
        for here in [
            "localhost:5000",
            "localhost",
            "127.0.0.1:1/a",
            "127.9.9.9",
            "[::1]:5000/a",
        ] {
            assert!(registry(here).unwrap().is_loopback(), "{here}");
        }
        for elsewhere in [
            "10.0.0.1:5000",
            "192.168.1.2:5000",
            "127.0.0.1.example:5000",
            "localhost.example",
            "registry.localhost:5000",
            "registry.local:5000",
            "[::2]:5000",
        ] {
            assert!(!registry(elsewhere).unwrap().is_loopback(), "{elsewhere}");
        }
    }
}
