//! What stands outside of a cluster: a machine on the node's network that is no part of it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::config::Addresses;
use crate::layout::{Layout, write_private};
use crate::{Cluster, netns};

/// Says that the peer is whole.
const MADE: &str = "run/outside";

/// A peer on the node's network, as a client or another machine in the data centre would be: a
/// network namespace of its own, joined by a veth pair to the bridge that carries the node's
/// address. It reaches what the node shows to its network (the node's ports, addresses that are
/// announced there) and neither pods nor ClusterIPs, to which it has no route. Nor has it one to
/// the machine's own network. It goes with the cluster.
#[derive(Debug)]
pub struct Outside<'a> {
    cluster: &'a Cluster,
    addresses: Addresses,
}

impl Cluster {
    /// The peer outside, made when it is first asked for.
    ///
    /// # Errors
    /// Where it cannot be made; the light variant has no network of its own.
    pub fn outside(&self) -> Result<Outside<'_>> {
        self.full("a network of its own")?;
        let addresses = self.addresses()?;
        let _lock = self.layout.lock()?;
        if !self.layout.at(MADE).exists() {
            create(&self.layout, &addresses, &self.binaries.path())
                .context("cannot make the peer outside")?;
        }
        Ok(Outside {
            cluster: self,
            addresses,
        })
    }
}

/// The caller holds the cluster's lock.
fn create(layout: &Layout, addresses: &Addresses, path: &str) -> Result<()> {
    let ip = |words: &str| netns::run(Command::new("ip").args(words.split(' ')).env("PATH", path));
    let (node, peer) = (layout.name.netns(), layout.name.outside());
    if layout.name.outside_path().exists() {
        // What a start that was cut short left; its links go with it.
        ip(&format!("netns delete {peer}"))?;
    }
    let shared = layout.lock_shared()?;
    ip(&format!("netns add {peer}"))?;
    drop(shared);
    ip(&format!(
        "-netns {node} link add outside0 type veth peer name eth0 netns {peer}"
    ))?;
    ip(&format!("-netns {node} link set outside0 master node0 up"))?;
    ip(&format!("-netns {peer} link set lo up"))?;
    for address in addresses.outside() {
        ip(&format!("-netns {peer} addr add {address}/24 dev eth0"))?;
    }
    ip(&format!("-netns {peer} link set eth0 up"))?;
    write_private(&layout.at(MADE), b"")
}

impl Outside<'_> {
    /// The node's address, as it is seen from here: with a NodePort, or a port of a pod on the host
    /// network.
    pub fn node(&self) -> Ipv4Addr {
        self.addresses.node
    }

    /// The address that connections from here come from.
    pub fn address(&self) -> Ipv4Addr {
        self.addresses.outside()[0]
    }

    /// A second address, for clients that say which one to use (`curl --interface`): for rules that
    /// admit some sources and not others.
    pub fn second_address(&self) -> Ipv4Addr {
        self.addresses.outside()[1]
    }

    /// The network namespace, for programs that enter it themselves (`nsenter --net=`).
    pub fn namespace(&self) -> PathBuf {
        self.cluster.layout.name.outside_path()
    }

    /// A command that will run here (files and processes are the machine's), with this process's
    /// input and output and the cluster's programs on `PATH`. It ends with the cluster.
    pub fn command(&self, program: &str) -> Command {
        let mut command = netns::enter(&self.namespace());
        command
            .arg(program)
            .env("PATH", self.cluster.binaries.path());
        command
    }

    /// Runs a command here. The output is for the caller to judge.
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

    /// Runs a function on a thread here. A socket made there belongs to this namespace wherever it
    /// is used afterwards.
    ///
    /// # Errors
    /// Where the namespace cannot be entered.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        netns::inside_of(&self.namespace(), act)
    }

    /// A connection from here.
    ///
    /// # Errors
    /// Where it is not made within the time.
    pub fn dial(&self, target: SocketAddr, timeout: Duration) -> Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&target, timeout))?
            .with_context(|| format!("connect to {target} from outside {}", self.cluster.name()))
    }

    /// The hardware address behind an address of the node's network, as ARP told it here; none
    /// where nobody has answered.
    ///
    /// # Errors
    /// Where the table cannot be read.
    pub fn neighbour(&self, address: Ipv4Addr) -> Result<Option<String>> {
        let table = self.inside(|| fs::read_to_string("/proc/thread-self/net/arp"))??;
        Ok(table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let of = fields.first()?.parse() == Ok(address);
            // A question without an answer has no flags.
            (of && fields.get(2) != Some(&"0x0")).then(|| fields.get(3).map(|f| (*f).to_owned()))?
        }))
    }
}
