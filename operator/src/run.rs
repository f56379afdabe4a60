//! The program: connects, reads everything, and runs the loop while it holds the Lease.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use postern_refs::status::Statuses;
use postern_refs::{Key, Kind, Snapshot};
use postern_stamp::{ApiServers, Images, rights};
use postern_watch::kube::{Clients, KubeSource, Options};
use postern_watch::lease::{LeaseHolder, Timing};
use postern_watch::status::StatusWriter;
use postern_watch::{Observed, Seen, Watch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::driver::{Inputs, KINDS, drive, is_whole};
use crate::probes::{self, Ready};
use crate::problem::chain;
use crate::shared::{Installation, Shared, Surroundings};
use crate::{observe, surroundings};

/// How long the API server may take to answer at the start.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// How long changes of Gateways' statuses are gathered.
const MIRROR_PAUSE: Duration = Duration::from_millis(100);

/// A mounted Secret may lag behind by 80 s: control planes refuse certificates that it could outlive.
const LEAST_CERTIFICATE_SECONDS: u64 = 120;

/// How the operator runs.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The operator's own namespace, where its Lease is.
    #[arg(long, env = "POSTERN_NAMESPACE")]
    pub namespace: String,
    /// The name of this pod, by which it holds the Lease.
    #[arg(long, env = "POSTERN_POD_NAME")]
    pub pod_name: String,
    /// The image of control planes.
    #[arg(long, env = "RELATED_IMAGE_CONTROLPLANE")]
    pub controlplane_image: String,
    /// The image of Envoy with its supervisor.
    #[arg(long, env = "RELATED_IMAGE_PROXY")]
    pub proxy_image: String,
    /// Seconds that the Lease lasts, within which its holder must renew it or stop, and between
    /// two renewals.
    #[arg(
        long,
        env = "POSTERN_LEASE_SECONDS",
        value_delimiter = ',',
        default_value = "137,107,26"
    )]
    pub lease_seconds: Vec<u64>,
    /// Where /healthz and /readyz are answered.
    #[arg(long, env = "POSTERN_PROBES_ADDRESS", default_value = "0.0.0.0:15020")]
    pub probes_address: SocketAddr,
    /// Ports at which control planes may reach API servers at any address, for networks whose
    /// policies match no node by its address (Cilium). By default the endpoints of
    /// default/kubernetes are looked up and only those may be reached.
    #[arg(long, env = "POSTERN_API_SERVER_PORTS", value_delimiter = ',')]
    pub api_server_ports: Vec<u16>,
    /// Addresses that clients use for node ports. By default nodes are looked up.
    #[arg(long, env = "POSTERN_NODE_ADDRESSES", value_delimiter = ',')]
    pub node_addresses: Vec<IpAddr>,
    /// Namespaces whose pods may read metrics of the gateways.
    #[arg(long, env = "POSTERN_MONITORING_NAMESPACES", value_delimiter = ',')]
    pub monitoring_namespaces: Vec<String>,
    /// The address that the gateways' pods listen on; `::` where pods have IPv6 only.
    #[arg(long, env = "POSTERN_LISTEN", default_value = "0.0.0.0")]
    pub listen: IpAddr,
    /// Seconds that certificates between Envoys and control planes live: a day by default. Two minutes
    /// are the least, and are for tests of rotation.
    #[arg(
        long,
        env = "POSTERN_CERTIFICATE_SECONDS",
        value_parser = clap::value_parser!(u64).range(LEAST_CERTIFICATE_SECONDS..)
    )]
    pub certificate_seconds: Option<u64>,
    /// Seconds that an exposure which was left goes on once the one asked for has its addresses: for
    /// clients that still know the old one, and for routers, which follow in their own time.
    #[arg(long, env = "POSTERN_EXPOSURE_LINGER_SECONDS", default_value_t = 30)]
    pub exposure_linger_seconds: u64,
}

impl RunArgs {
    /// Shorter timings lose the Lease when an API server restarts.
    fn timing(&self) -> Result<Timing> {
        Timing::of_seconds(&self.lease_seconds)
            .context("--lease-seconds: three numbers, each greater than the next, are expected")
    }

    fn installation(&self) -> Installation {
        let ports: BTreeSet<u16> = self.api_server_ports.iter().copied().collect();
        Installation {
            images: Images {
                control_plane: self.controlplane_image.clone(),
                proxy: self.proxy_image.clone(),
            },
            api_servers: (!ports.is_empty()).then_some(ApiServers::Ports(ports)),
            nodes: self.node_addresses.clone(),
            monitoring_namespaces: self.monitoring_namespaces.iter().cloned().collect(),
            listen: self.listen,
            certificate_seconds: self.certificate_seconds,
            namespace: self.namespace.clone(),
            linger: Duration::from_secs(self.exposure_linger_seconds),
        }
    }
}

/// Runs until it is asked to stop. The error is one line.
///
/// # Errors
/// If the cluster cannot be reached, or the Lease was lost.
pub async fn run(arguments: RunArgs) -> Result<()> {
    let config = kube::Config::infer().await.map_err(|error| {
        anyhow::anyhow!(
            "no cluster to connect to: run in a pod, or set KUBECONFIG ({})",
            chain(&error)
        )
    })?;
    run_on(config, arguments, stopped()?).await
}

/// Runs against one cluster until `stop` ends.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    config: kube::Config,
    arguments: RunArgs,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let ready = Ready::default();
    let (address, serving) = probes::serve(arguments.probes_address, ready.clone())
        .await
        .with_context(|| format!("cannot listen for probes on {}", arguments.probes_address))?;
    let _probes = Task(tokio::spawn(serving));
    tracing::info!(%address, "probes are answered");
    let clients = Clients::new(&config).map_err(|error| anyhow::anyhow!(chain(&error)))?;
    let timing = arguments.timing()?;
    let mut stop = std::pin::pin!(stop);
    let reading = async {
        greet(&config, &clients).await?;
        read(&config, &clients, &arguments).await
    };
    let reading = tokio::select! {
        reading = reading => reading?,
        () = &mut stop => return Ok(()),
    };
    tracing::info!("everything is read");
    let meta = ObjectMeta {
        name: Some(rights::OPERATOR_LEASE.into()),
        namespace: Some(arguments.namespace.clone()),
        ..ObjectMeta::default()
    };
    let lease = LeaseHolder::spawn(clients.general(), meta, &arguments.pod_name, timing);
    tokio::select! {
        ended = lead(&clients, reading, ready, &lease) => ended,
        () = &mut stop => {
            // Nothing is written any more: another may begin at once.
            lease.release().await;
            tracing::info!("stopped, the Lease is free");
            Ok(())
        }
    }
}

/// Asks the API server for its version: what is wrong with the connection shows here.
async fn greet(config: &kube::Config, clients: &Clients) -> Result<()> {
    let url = &config.cluster_url;
    let client = clients.general();
    let version = match tokio::time::timeout(FIRST_ANSWER, client.apiserver_version()).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => bail!(
            "the API server at {url} cannot be reached: {}",
            chain(&error)
        ),
        Err(_) => bail!("the API server at {url} does not answer"),
    };
    tracing::info!(%url, version = version.git_version, "connected");
    Ok(())
}

/// Everything that was read, and goes on being read.
struct Reading {
    shared: Arc<Shared>,
    source: KubeSource,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    around: watch::Receiver<Surroundings>,
    touches: mpsc::UnboundedReceiver<observe::Touch>,
    _forward: Task,
}

async fn read(config: &kube::Config, clients: &Clients, arguments: &RunArgs) -> Result<Reading> {
    // Watches of what was stamped and of our surroundings: a dozen, for the whole cluster. A read
    // timeout would end them.
    let mut patient = config.clone();
    patient.read_timeout = None;
    let watching =
        kube::Client::try_from(patient).map_err(|error| anyhow::anyhow!(chain(&error)))?;
    let scope = KINDS.map(Watch::cluster).into();
    let source = KubeSource::spawn(clients.clone(), scope, Options::new(None));
    let shared = Shared::new(
        clients.general(),
        &arguments.pod_name,
        arguments.installation(),
    );
    let around = surroundings::start(&watching);
    let (touch, touches) = mpsc::unbounded_channel();
    let pending = observe::start(&shared, &watching, &touch);
    let (snapshots, forward) = whole_snapshots(&source).await?;
    pending.all_listed().await;
    Ok(Reading {
        shared,
        source,
        snapshots,
        around,
        touches,
        _forward: forward,
    })
}

/// Runs the loop; what it does waits for the Lease.
async fn lead(
    clients: &Clients,
    reading: Reading,
    ready: Ready,
    lease: &LeaseHolder,
) -> Result<()> {
    let source = &reading.source;
    // It goes when something cannot be read any more, and comes back.
    let mut coverage = source.coverage();
    let _readiness = Task(tokio::spawn(async move {
        loop {
            ready.set(is_whole(&coverage.borrow_and_update()));
            if coverage.changed().await.is_err() {
                return;
            }
        }
    }));
    let gateways = Arc::new(Observed::default());
    let _mirror = Task(tokio::spawn(mirror_gateways(
        source.observed(),
        gateways.clone(),
    )));
    let writer = StatusWriter::spawn(clients.general(), source.kinds(), gateways, lease.leader());
    let (statuses, mut told) = watch::channel(Arc::<Statuses>::default());
    let _statuses = Task(tokio::spawn(async move {
        while told.changed().await.is_ok() {
            writer.set(told.borrow_and_update().clone());
        }
    }));
    let inputs = Inputs {
        snapshots: reading.snapshots,
        coverage: source.coverage(),
        leader: lease.leader(),
        around: reading.around,
        touches: reading.touches,
        statuses,
    };
    let ended = drive(reading.shared, inputs).await;
    bail!("{ended}: start this process again")
}

/// The Snapshots from the first whole one on.
async fn whole_snapshots(source: &KubeSource) -> Result<(watch::Receiver<Arc<Snapshot>>, Task)> {
    let mut all = source.snapshots();
    let first = all
        .wait_for(Option::is_some)
        .await
        .context("the source ended")?
        .clone();
    let (sender, receiver) = watch::channel(first.unwrap_or_default());
    let forward = tokio::spawn(async move {
        while all.changed().await.is_ok() {
            let next = all.borrow_and_update().clone();
            if let Some(next) = next {
                sender.send_replace(next);
            }
        }
    });
    Ok((receiver, Task(forward)))
}

/// Shows the status writer Gateways alone: routes have a writer, their tenant's control plane, and
/// a writer that saw them would take their entries away as nobody's.
async fn mirror_gateways(from: Arc<Observed>, to: Arc<Observed>) {
    let first = (Kind::Gateway, Key::new("", ""));
    let mut changes = from.changes();
    let mut known: BTreeMap<Key, Seen> = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        let now: BTreeMap<Key, Seen> = from.read(|digests| {
            let gateways = digests.range(first.clone()..);
            gateways
                .take_while(|((kind, _), _)| *kind == Kind::Gateway)
                .map(|((_, key), seen)| (key.clone(), *seen))
                .collect()
        });
        for (key, seen) in &now {
            match known.remove(key) {
                Some(before) if before.change == seen.change => continue,
                // There and back meanwhile: that is news to the writer.
                Some(before) if before.digest == seen.digest => to.remove(Kind::Gateway, key),
                _ => {}
            }
            to.set(Kind::Gateway, key, seen.digest);
        }
        for gone in known.keys() {
            to.remove(Kind::Gateway, gone);
        }
        known = now;
        if changes.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(MIRROR_PAUSE).await;
    }
}

/// Ends with SIGTERM or SIGINT.
fn stopped() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A task that ends with this value.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(more: &[&str]) -> RunArgs {
        let needed = [
            "run",
            "--namespace=n",
            "--pod-name=p",
            "--controlplane-image=c",
            "--proxy-image=e",
        ];
        Command::parse_from(needed.iter().chain(more)).run
    }

    #[test]
    fn the_lease_lasts_as_openshift_asks_unless_it_is_said() {
        assert_eq!(parse(&[]).timing().expect("valid"), Timing::OPENSHIFT);
        let short = parse(&["--lease-seconds=13,10,2"]).timing();
        assert_eq!(short.expect("valid").deadline, Duration::from_secs(10));
        for wrong in ["1,2,3", "3,2", "3,2,0", "5"] {
            let wrong = format!("--lease-seconds={wrong}");
            assert!(parse(&[&wrong]).timing().is_err(), "{wrong}");
        }
    }

    #[test]
    fn certificates_live_as_control_planes_choose_unless_it_is_said() {
        assert_eq!(parse(&[]).installation().certificate_seconds, None);
        let said = parse(&["--certificate-seconds=120"]).installation();
        assert_eq!(said.certificate_seconds, Some(120));
        let short = Command::try_parse_from(["run", "--certificate-seconds=119"]);
        assert!(short.is_err_and(|error| error.to_string().contains("119 is not in 120..")));
    }

    #[test]
    fn api_servers_are_looked_up_unless_their_ports_are_said() {
        assert_eq!(parse(&[]).installation().api_servers, None);
        let said = parse(&["--api-server-ports=6443,443"]).installation();
        assert_eq!(
            said.api_servers,
            Some(ApiServers::Ports([443, 6443].into()))
        );
    }
}
