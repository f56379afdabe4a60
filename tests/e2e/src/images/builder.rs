//! What puts images together, and where it keeps its things meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};

use super::reference;
use crate::tools;

const PREFIX: &str = ".work-";

/// Folders that podman and buildah make as root wherever they are told to keep their storage; the
/// inner ones, which are caches and locks, first.
const SIDE_EFFECTS: [&str; 4] = [
    "/run/containers/networks",
    "/run/containers",
    "/var/lib/containers/cache",
    "/var/lib/containers",
];

/// A folder for one build. It goes with what is in it, mounts too.
#[derive(Debug)]
pub(super) struct Work {
    path: PathBuf,
    /// Folders that were not there before.
    side_effects: Vec<&'static Path>,
    removed: bool,
}

impl Work {
    /// Makes one in `out`, so that what is made in it can be moved there.
    pub(super) fn new(out: &Path) -> Result<Work> {
        let path = out.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let side_effects = SIDE_EFFECTS.iter().map(Path::new);
        Ok(Work {
            path,
            side_effects: side_effects.filter(|dir| !dir.exists()).collect(),
            removed: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, and says so if it cannot.
    pub(super) fn remove(mut self) -> Result<()> {
        self.removed = true;
        self.remove_all()
    }

    fn remove_all(&self) -> Result<()> {
        for dir in &self.side_effects {
            let is_ours = dir.ends_with("networks") || dir.ends_with("cache");
            // If somebody else's are in it by now, the outer one stays.
            let _ = if is_ours {
                fs::remove_dir_all(dir)
            } else {
                fs::remove_dir(dir)
            };
        }
        remove(&self.path)
    }

    /// Removes those that killed builds left.
    pub(super) fn sweep(out: &Path) -> Result<()> {
        for entry in fs::read_dir(out)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.removed {
            // Only after an error, which is what people should read.
            let _ = self.remove_all();
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for mount in mounts_below(&mounts, path).into_iter().rev() {
        umount2(&mount, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", mount.display()))?;
    }
    let Err(error) = fs::remove_dir_all(path) else {
        return Ok(());
    };
    // Without root, files of a storage may belong to users that exist only in a user namespace.
    for tool in ["podman", "buildah"] {
        let unshared = Command::new(tool)
            .args(["unshare", "rm", "-rf"])
            .arg(path)
            // What it makes of its own goes with the rest.
            .envs(["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"].map(|name| (name, path)))
            .stderr(Stdio::null())
            .status();
        if unshared.is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    Err(error).with_context(|| format!("cannot remove {}", path.display()))
}

/// Mount points below a folder, in the order of `mountinfo`.
pub(super) fn mounts_below(mountinfo: &str, path: &Path) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| Some(PathBuf::from(line.split(' ').nth(4)?)))
        .filter(|mount| mount.starts_with(path))
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Podman,
    Docker,
    Buildah,
}

/// The tool, told to keep everything in one folder.
#[derive(Debug)]
pub(super) struct Builder {
    tool: Tool,
    work: PathBuf,
}

impl Builder {
    /// The first that answers; `docker` may be there without its daemon. As root, on a machine that
    /// has none, buildah is installed: it is no service and runs nothing.
    pub(super) fn find(work: &Work) -> Result<Builder> {
        let all = [Tool::Podman, Tool::Docker, Tool::Buildah];
        let builders = all.map(|tool| Builder {
            tool,
            work: work.path().into(),
        });
        for builder in builders {
            if builder.answers() {
                return Ok(builder);
            }
        }
        let none = "none of podman, docker and buildah answers `info` here: install one (Debian: apt-get install \
                    buildah)";
        if !nix::unistd::geteuid().is_root() {
            bail!("{none}");
        }
        tools::run(
            Command::new("apt-get")
                .args([
                    "install",
                    "--yes",
                    "--quiet=2",
                    "--no-install-recommends",
                    "buildah",
                ])
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdout(Stdio::null()),
        )
        .context(none)?;
        let builder = Builder {
            tool: Tool::Buildah,
            work: work.path().into(),
        };
        ensure!(
            builder.answers(),
            "buildah is there, but `buildah info` fails"
        );
        Ok(builder)
    }

    pub(super) fn name(&self) -> &'static str {
        match self.tool {
            Tool::Podman => "podman",
            Tool::Docker => "docker",
            Tool::Buildah => "buildah",
        }
    }

    fn answers(&self) -> bool {
        self.command()
            .arg("info")
            .output()
            .is_ok_and(|output| output.status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.name());
        match self.tool {
            // The daemon has its own storage.
            Tool::Docker => {
                command.env("DOCKER_BUILDKIT", "1");
            }
            Tool::Podman | Tool::Buildah => {
                command
                    .arg("--root")
                    .arg(self.work.join("storage"))
                    .arg("--runroot")
                    .arg(self.work.join("run"))
                    .args(["--storage-driver", "vfs"])
                    .env("TMPDIR", &self.work)
                    // Without root, what they know of layers.
                    .env("XDG_DATA_HOME", self.work.join("data"));
                // And what they make of networks. Who has podman has that anyway, and podman leaves a
                // process that goes by it.
                if self.tool == Tool::Buildah {
                    command
                        .env("XDG_CONFIG_HOME", self.work.join("config"))
                        .env("XDG_RUNTIME_DIR", &self.work);
                }
            }
        }
        command.stdin(Stdio::null());
        command
    }

    /// Builds a target of the Containerfile into an OCI archive.
    pub(super) fn build(&self, context: &Path, target: &str, archive: &Path) -> Result<()> {
        let name = reference(target);
        let mut command = self.command();
        command.arg("build");
        if self.tool != Tool::Docker {
            // Equal inputs make equal layers; stages that targets share are made once.
            command.args(["--isolation", "chroot", "--timestamp", "0", "--layers"]);
        }
        command
            .args(["--build-arg", "PARTS=given", "--build-arg"])
            .arg(format!("VERSION={}", env!("CARGO_PKG_VERSION")))
            .args(["--target", target, "--tag", &name, "--file"])
            .arg(tools::repository().join("Containerfile"))
            .arg(context);
        quietly(&mut command, &format!("build {target}"))?;
        let mut command = self.command();
        match self.tool {
            Tool::Podman => command
                .args(["save", "--format", "oci-archive", "--output"])
                .arg(archive)
                .arg(&name),
            Tool::Docker => command.args(["save", "--output"]).arg(archive).arg(&name),
            Tool::Buildah => command
                .arg("push")
                .arg(&name)
                .arg(format!("oci-archive:{}:{name}", archive.display())),
        };
        let saved = quietly(&mut command, &format!("save {target}"));
        if self.tool == Tool::Docker {
            let removed = quietly(
                self.command().args(["image", "rm", &name]),
                "remove the image",
            );
            saved?;
            removed?;
            // Before version 25 it saves in a format of its own.
            let listed = Command::new("tar").arg("-tf").arg(archive).output()?;
            let listed = String::from_utf8_lossy(&listed.stdout);
            ensure!(
                listed.lines().any(|line| line == "index.json"),
                "docker is older than 25 and saves no OCI archive: use a newer one, podman or buildah"
            );
            return Ok(());
        }
        saved
    }
}

/// Runs a command; what it prints is only told if it fails, the end of it.
fn quietly(command: &mut Command, what: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let lines: Vec<&str> = printed.lines().collect();
    bail!(
        "{name} cannot {what} ({}):\n{}",
        output.status,
        lines[lines.len().saturating_sub(15)..].join("\n")
    );
}
