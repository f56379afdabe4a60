//! How images come to a cluster that is not ours: `IMAGES`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail, ensure};

use crate::images::Images;
use crate::push::{Named, Pusher, Registry};

/// How the images that were built here come to the cluster's nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// They are pushed to a registry that the nodes pull from, and named by their digests.
    Push(Registry),
    /// A command of a shell loads them, run once for each archive with its path as last argument.
    Load(String),
}

impl FromStr for Delivery {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("push", registry)) => {
                let registry = registry.parse().with_context(|| format!("IMAGES={text}"))?;
                Ok(Delivery::Push(registry))
            }
            Some(("load", command)) => {
                ensure!(
                    !command.trim().is_empty(),
                    "IMAGES={text}: after load: goes the command that loads an archive, for example \
                     IMAGES='load:kind load image-archive'"
                );
                Ok(Delivery::Load(command.trim().to_owned()))
            }
            _ => bail!("IMAGES={text:?} is neither push:REGISTRY nor load:COMMAND"),
        }
    }
}

impl Delivery {
    /// What will be done, for a person.
    #[must_use]
    pub fn about(&self) -> String {
        match self {
            Delivery::Push(registry) => format!("pushed to {registry}"),
            Delivery::Load(command) => format!("loaded by `{command}`"),
        }
    }

    /// Gives the images to the cluster, and says what it calls them. `tell` hears a line a stage.
    ///
    /// # Errors
    /// Where the registry does not take one, or the command fails.
    pub(super) fn deliver(&self, images: &Images, tell: &dyn Fn(&str)) -> Result<Named> {
        let each = images.each();
        let named = match self {
            Delivery::Push(registry) => Pusher::built()?.push_all(&each, registry, None)?,
            Delivery::Load(command) => {
                for (_, archive) in each {
                    load(command, archive)?;
                }
                Named::default()
            }
        };
        tell(&format!("images are {}", self.about()));
        Ok(named)
    }
}

fn load(command: &str, archive: &Path) -> Result<()> {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("{command} \"$1\""))
        .arg("sh")
        .arg(archive)
        .stdin(Stdio::null())
        .output()
        .context("cannot run sh")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.trim().lines().collect();
    ensure!(
        output.status.success(),
        "IMAGES=load: `{command} {}` failed ({}): {}",
        archive.display(),
        output.status,
        lines[lines.len().saturating_sub(5)..].join("\n")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn images_are_pushed_or_loaded() {
        let push: Delivery = "push:127.0.0.1:5000/x".parse().unwrap();
        assert_eq!(push, Delivery::Push("127.0.0.1:5000/x".parse().unwrap()));
        let load: Delivery = "load:ctr -n k8s.io images import".parse().unwrap();
        assert_eq!(load, Delivery::Load("ctr -n k8s.io images import".into()));
    }

    #[test]
    fn what_is_neither_is_told_in_a_line() {
        for (bad, why) in [
            ("", "neither push:REGISTRY nor load:COMMAND"),
            ("registry.example", "neither"),
            ("pull:registry.example", "neither"),
            ("push", "neither"),
            ("push:", "IMAGES=push:: a registry begins with its host"),
            ("push:https://a.example", "without https://"),
            ("load:", "kind load image-archive"),
            ("load: ", "after load: goes the command"),
        ] {
            let error = bad.parse::<Delivery>().unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.contains(why) && !error.contains('\n'),
                "{bad:?}: {error}"
            );
        }
    }

    #[test]
    fn a_command_gets_the_path_as_its_last_argument() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("an image's $(name).tar");
        std::fs::write(&archive, "tar").unwrap();
        let copy = dir.path().join("copy");
        let to = format!("cp -t '{}'", copy.display());
        std::fs::create_dir(&copy).unwrap();
        load(&to, &archive).unwrap();
        assert!(copy.join("an image's $(name).tar").is_file());

        let error = load("echo no such node >&2; false", &archive)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no such node"), "{error}");
    }
}
