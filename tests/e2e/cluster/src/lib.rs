//! A real one-node Kubernetes cluster on one machine, for tests and for trying things out.
//!
//! etcd, the API server, controllers, scheduler, kubelet, containerd, kube-proxy, CoreDNS and
//! network policies run in a network namespace without any uplink, beside a mount and a process
//! namespace: several clusters run side by side, nothing of one can reach the machine's network,
//! and nothing of it stays when it goes down. The programs are built from Go modules (below `go/`)
//! once, and kept in `${XDG_CACHE_HOME:-~/.cache}/postern/cluster`; a cluster's own files are in
//! `…/postern/clusters/NAME`. No image registry is used: images are archives that [`oci_archive`]
//! makes and [`Cluster::load_image`] loads.
//!
//! ```text
//!     ordinary namespaces                │ postern-NAME
//!     kubectl, tests ─▶ 127.0.0.1:PORT ──┼─▶ 127.0.0.1:PORT API server    pods: bridge cni0
//!                        (a forward)     │   198.18.0.10 node: kubelet, CoreDNS
//! ```
//!
//! [`Cluster::outside`] adds a peer on the node's network, which stands for the world outside.
//!
//! A full cluster needs root, the light variant (etcd and an API server) does not.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use postern_cluster::{Cluster, Options};
//!
//! let cluster = Cluster::up("a", &Options::default())?;
//! let tenant = cluster.kubeconfig_for("alice", &["team-a"])?;
//! cluster.kubectl(&["get", "pods", "--all-namespaces"])?;
//! cluster.down()?;
//! # Ok(())
//! # }
//! ```

mod background;
mod binaries;
mod cgroups;
mod config;
mod forward;
mod image;
mod kept;
mod layout;
mod light;
mod names;
mod netns;
mod node;
mod olm;
mod outside;
mod pki;
mod prepare;
mod process;
mod procs;
mod progress;
mod recipe;
mod start;
mod teardown;

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::binaries::{Binaries, Part};
use crate::layout::{Layout, State};
use crate::pki::{Pki, write_kubeconfig};
use crate::progress::Progress;
use crate::start::Settings;

pub use crate::binaries::fingerprint;
pub use crate::config::{Addresses, NODE};
pub use crate::image::{Entry, ImageConfig, architecture, oci_archive};
pub use crate::kept::{gateway_api_crds, kept, module_dir};
pub use crate::layout::cache;
pub use crate::names::Name;
pub use crate::node::{ECHO_IMAGE, PROBE_IMAGE};
pub use crate::olm::{OLM_NAMESPACE, OPERATORS_NAMESPACE, Olm, OlmPrograms, SCORECARD_IMAGE};
pub use crate::outside::Outside;

/// Runs Go in a module, without cgo, as the cluster's own programs are built.
///
/// # Errors
/// Where there is no Go, or it fails: with the last that it said.
pub fn go(module: &Path, arguments: &[&str]) -> Result<Output> {
    recipe::run_go(module, false, arguments)
}

/// Runs a command to its end with this as its standard input. The output is for the caller to judge.
///
/// # Errors
/// Where it cannot be run.
pub fn feed(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut to = child.stdin.take().context("no standard input")?;
    let input = input.to_owned();
    // On a thread: it may write before it has read everything.
    let writer = std::thread::spawn(move || to.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // One that ends without reading says why itself.
    let _ = writer.join();
    Ok(output)
}

/// Which kind of cluster to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only etcd and an API server, on the loopback of the ordinary namespace, without root. There
    /// is no controller: nothing is garbage-collected, and `admin`, `edit` and `view` hold no rules.
    pub light: bool,
    /// Which addresses it has, 0 to 9: see [`Addresses::numbered`].
    pub number: u8,
    /// Say nothing on standard error.
    pub quiet: bool,
}

/// The Gateway API's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// What is stable.
    Standard,
    /// What is stable and what is being tried.
    Experimental,
}

impl Channel {
    fn folder(self) -> &'static str {
        match self {
            Channel::Standard => "standard",
            Channel::Experimental => "experimental",
        }
    }
}

/// A cluster that is up. It stays up when this value or the process goes: [`Cluster::down`] ends it.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    state: State,
    binaries: Binaries,
}

/// Removes the cluster of this name when it is dropped, however what uses it ends.
#[derive(Debug)]
pub struct Gone(pub String);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Err(error) = Cluster::remove(&self.0) {
            eprintln!("cluster {} was not removed: {error:#}", self.0);
        }
    }
}

impl Cluster {
    /// Starts a cluster and waits until it works; builds its programs first where they are missing.
    /// One of that name and kind that is up already is taken as it is; remains of one that failed
    /// are removed.
    ///
    /// # Errors
    /// A refusal in one line that says the way out, or what failed with the last words of the part
    /// that did; nothing stays then (with `POSTERN_KEEP` set, all stays to be looked at).
    pub fn up(name: &str, options: &Options) -> Result<Self> {
        let layout = Layout::of(&name.parse()?)?;
        let progress = Progress::new(options.quiet);
        layout.check(options.light)?;
        if !options.light {
            prepare::check_root()?;
        }
        let lock = layout.lock()?;
        // One that cannot be read or is not whole is started anew.
        if let Ok(Some(cluster)) = Self::adopt(&layout) {
            ensure!(
                cluster.state.light == options.light && cluster.state.number == options.number,
                "cluster {name} is up already, of another kind: take it down first"
            );
            progress.say(&format!("cluster {name} is up already"));
            return Ok(cluster);
        }
        let settings = Settings {
            light: options.light,
            addresses: Addresses::numbered(options.number)?,
            number: options.number,
            binaries: Binaries::locate()?,
        };
        if let Err(refusal) = prepare(&layout, &settings, &progress) {
            // A lock that nobody waits for is not left behind.
            if !layout.state().exists() {
                give_up(&layout, lock)?;
            }
            return Err(refusal);
        }
        if !teardown::leftovers(&layout)?.is_empty() {
            progress.stage("removing what an earlier start left");
            teardown::remove(&layout)?;
        }
        let started = if options.light {
            light::up(&layout, &settings, &progress)
        } else {
            prepare_kernel(&layout).and_then(|()| node::up(&layout, &settings, &progress))
        };
        let mut state = match started {
            Ok(state) => state,
            Err(error) => return Err(abandon(&layout, error, lock)),
        };
        state.ready = true;
        layout.save(&state)?;
        progress.say(&format!(
            "cluster {name} is up: export KUBECONFIG={}",
            layout.kubeconfig().display()
        ));
        Ok(Self {
            layout,
            state,
            binaries: settings.binaries,
        })
    }

    /// A cluster that is up, started by this or another process.
    ///
    /// # Errors
    /// Where there is none of that name, or it is not whole.
    pub fn open(name: &str) -> Result<Self> {
        let layout = Layout::of(&name.parse()?)?;
        let cluster = Self::adopt(&layout)?;
        cluster.with_context(|| format!("no cluster {name} is up: start it with `up`"))
    }

    /// The cluster as it was written down, if it came up.
    fn adopt(layout: &Layout) -> Result<Option<Self>> {
        let Some(state) = layout.load()?.filter(|state| state.ready) else {
            return Ok(None);
        };
        let mut parts = state.init.iter().chain(&state.processes);
        if let Some(ended) = parts.find(|part| !part.is_alive()) {
            bail!(
                "cluster {} is not whole, {} has ended (logs in {}): take it down first",
                layout.name,
                ended.name,
                layout.at("logs").display()
            );
        }
        Ok(Some(Self {
            layout: layout.clone(),
            binaries: Binaries::at(state.binaries.clone()),
            state,
        }))
    }

    /// Ends the cluster and removes everything of it.
    ///
    /// # Errors
    /// Names what could not be removed.
    pub fn down(self) -> Result<()> {
        Self::remove(self.layout.name.as_str())
    }

    /// Ends a cluster of this name and removes everything of it, whatever state it is in; nothing
    /// to remove is no error.
    ///
    /// # Errors
    /// Names what could not be removed.
    pub fn remove(name: &str) -> Result<()> {
        let layout = Layout::of(&name.parse()?)?;
        let lock = layout.lock()?;
        teardown::remove(&layout)?;
        give_up(&layout, lock)
    }

    /// Everything that exists of a cluster of this name: processes, mounts, cgroups, files.
    ///
    /// # Errors
    /// Where this cannot be found out.
    pub fn leftovers(name: &str) -> Result<Vec<String>> {
        teardown::leftovers(&Layout::of(&name.parse()?)?)
    }

    /// The cluster's name.
    pub fn name(&self) -> &Name {
        &self.layout.name
    }

    /// Where everything of this cluster is kept: `logs/PART.log`, `logs/pods`, `hosts` (names that
    /// the cluster's DNS is to know beside its own, as in /etc/hosts), keys.
    pub fn state_dir(&self) -> PathBuf {
        self.layout.state()
    }

    /// The administrator's kubeconfig. It works inside and outside the cluster's namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// The cluster's addresses.
    ///
    /// # Errors
    /// Where the state is damaged.
    pub fn addresses(&self) -> Result<Addresses> {
        Addresses::numbered(self.state.number)
    }

    /// A kubeconfig with a client certificate of any user, in at most two groups; nothing is
    /// granted to it. Tests act as tenants with this, never as the administrator.
    ///
    /// # Errors
    /// Where the certificate cannot be made.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let pki = Pki::at(self.layout.at("pki"));
        let (certificate, key) = pki.user(user, groups)?;
        let ca = fs::read_to_string(pki.file("ca.crt"))?;
        // Users' names may hold anything and be of any length; with their groups in it, two of them never
        // share a file.
        let text = [&[user], groups].concat().join("\n");
        let digest = Sha256::digest(text.as_bytes());
        let file: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.layout.at("users").join(format!("{file}.kubeconfig"));
        let pair = (certificate.as_str(), key.as_str());
        write_kubeconfig(&path, self.layout.name.as_str(), self.state.port, &ca, pair)?;
        Ok(path)
    }

    /// kubectl as the administrator. The output is for the caller to judge.
    ///
    /// # Errors
    /// Where kubectl cannot be run.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl_as(&self.kubeconfig(), arguments, "")
    }

    /// kubectl with a kubeconfig, and what is to be its standard input.
    ///
    /// # Errors
    /// Where kubectl cannot be run.
    pub fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = start::kubectl(&self.layout, &self.binaries, kubeconfig);
        feed(command.args(arguments), input).context("cannot run kubectl")
    }

    /// A command that will run kubectl as the administrator, with this process's input and output.
    pub fn kubectl_command(&self) -> Command {
        start::kubectl(&self.layout, &self.binaries, &self.kubeconfig())
    }

    /// Runs a command inside the cluster's network namespace (files and processes are the
    /// machine's), with `KUBECONFIG` and our programs on `PATH`. The output is for the caller to
    /// judge.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn exec(&self, command: &[&str]) -> Result<Output> {
        let (program, arguments) = command.split_first().context("no command")?;
        self.command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {program}"))
    }

    /// A command that will run inside, as [`Cluster::exec`] does, with this process's input and
    /// output.
    pub fn command(&self, program: &str) -> Command {
        let mut command = if self.state.light {
            Command::new(program)
        } else {
            let mut command = netns::enter_network(&self.layout.name);
            command.arg(program);
            command
        };
        command
            .env("PATH", self.binaries.path())
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.layout.at("run/kubectl"));
        command
    }

    /// Starts a program in the cluster's network namespace (its files are the machine's), which runs until
    /// the cluster goes down. One of this name that runs is ended first. What it says is in
    /// `logs/NAME.log`.
    ///
    /// # Errors
    /// Where it cannot be started; the light variant has no network of its own.
    pub fn start_beside(&self, name: &str, command: &Command) -> Result<()> {
        self.full("a network of its own to start programs in")?;
        background::start(&self.layout, name, command, &[])
    }

    /// Fails with its last words if a program that was started by [`Cluster::start_beside`] has ended.
    ///
    /// # Errors
    /// Names the program.
    pub fn runs_beside(&self, name: &str) -> Result<()> {
        background::check(&self.layout, name)
    }

    /// Runs a function on a thread inside the cluster's network namespace. A socket made there
    /// belongs to it wherever it is used afterwards.
    ///
    /// # Errors
    /// Where the namespace cannot be entered.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        if self.state.light {
            return Ok(act());
        }
        netns::inside(&self.layout.name, act)
    }

    /// A connection from inside to an address: a pod, a ClusterIP, the node.
    ///
    /// # Errors
    /// Where it is not made within the time.
    pub fn dial(&self, target: SocketAddr, timeout: Duration) -> Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&target, timeout))?
            .with_context(|| format!("connect to {target} inside {}", self.name()))
    }

    /// Gives the node an image from an OCI archive.
    ///
    /// # Errors
    /// Where the archive is not taken; the light variant takes none.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        self.full("images")?;
        node::load_image(&self.layout, &self.binaries, archive)
    }

    /// Opens a port of the ordinary loopback that leads to `ADDRESS:PORT` inside, until the cluster
    /// goes down. Returns its number.
    ///
    /// # Errors
    /// Where the target is no address, or the port cannot be opened.
    pub fn forward(&self, target: &str) -> Result<u16> {
        self.forward_from(0, target)
    }

    /// As [`Cluster::forward`], with a port of the caller's choice; any free one for 0.
    ///
    /// # Errors
    /// Where the target is no address, or the port cannot be opened.
    pub fn forward_from(&self, port: u16, target: &str) -> Result<u16> {
        self.full("a network of its own to forward into")?;
        let target = forward::parse_target(target)?;
        let (listener, port) = forward::listen(port)?;
        forward::start(&self.layout, &self.binaries, listener, target)?;
        Ok(port)
    }

    /// The folder of the Gateway API's CRDs (YAML) of a channel, of the version that the
    /// conformance suite is of.
    pub fn gateway_api_crds(&self, channel: Channel) -> PathBuf {
        self.binaries.crds(channel.folder(), false)
    }

    /// As [`Cluster::gateway_api_crds`], of the oldest version that Postern knows (1.2.1).
    pub fn old_gateway_api_crds(&self, channel: Channel) -> PathBuf {
        self.binaries.crds(channel.folder(), true)
    }

    fn full(&self, what: &str) -> Result<()> {
        if self.state.light {
            bail!("cluster {} is a light one, it has no {what}", self.name());
        }
        Ok(())
    }
}

/// Says what will be done, refuses what cannot work, then installs and builds.
fn prepare(layout: &Layout, settings: &Settings, progress: &Progress) -> Result<()> {
    let parts = if settings.light {
        Part::LIGHT
    } else {
        Part::FULL
    };
    let missing = settings.binaries.missing(parts);
    let packages = if settings.light {
        Vec::new()
    } else {
        prepare::missing_packages(&missing)
    };
    prepare::check_space(&cache()?, !missing.is_empty())?;
    if !missing.is_empty() {
        binaries::check_go()?;
    }
    let (what, start) = if settings.light {
        ("etcd and an API server on the loopback", 5)
    } else {
        ("a node in a network namespace of its own", 20)
    };
    progress.say(&format!("cluster {}: {what}", layout.name));
    progress.say(&format!("  files in {}", layout.state().display()));
    if !packages.is_empty() {
        progress.say(&format!("  installs {} (Debian)", packages.join(" ")));
    }
    progress.say(&if missing.is_empty() {
        format!("  its programs are built; it starts in about {start} s")
    } else {
        format!(
            "  builds its programs first, once: up to 10 minutes and 5 GiB; then it starts in \
             about {start} s"
        )
    });
    prepare::install(&packages, progress)?;
    settings.binaries.ensure(parts, progress)
}

fn prepare_kernel(layout: &Layout) -> Result<()> {
    layout.create()?;
    prepare::check_kernel(&layout.state())
}

/// Gives up the lock of a cluster that is gone, with the folder if it was the last one.
fn give_up(layout: &Layout, lock: layout::Lock) -> Result<()> {
    lock.remove()?;
    let _ = fs::remove_dir(layout.clusters());
    Ok(())
}

/// Removes a cluster that failed to start, and says what failed.
fn abandon(layout: &Layout, error: anyhow::Error, lock: layout::Lock) -> anyhow::Error {
    if std::env::var_os("POSTERN_KEEP").is_some() {
        return error.context(format!(
            "cluster {} failed to start and is left in {}",
            layout.name,
            layout.state().display()
        ));
    }
    let removed = teardown::remove(layout).and_then(|()| give_up(layout, lock));
    match removed {
        Ok(()) => error.context(format!("cluster {} failed to start", layout.name)),
        Err(second) => error.context(format!(
            "cluster {} failed to start, and not all of it could be removed ({second:#})",
            layout.name
        )),
    }
}
