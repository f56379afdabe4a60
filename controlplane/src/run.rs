//! `run`: the control plane of one instance, in a tenant's namespace.
//!
//! ```text
//! Entitlement ──► what to watch ──► Snapshot ─┐
//!      └──────────────────────────────────────┴─► engine ──► Envoys ──► acknowledgements
//!                                                    └──► statuses ◄──────────┘
//! ```
//!
//! Without an Entitlement there is no news: what serves goes on. Without the API server, too. Only the
//! holder of the Lease makes keys and writes statuses; every replica serves Envoys.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use postern_api::EntitlementStatus;
use postern_api::entitlement::{CONTRACT_VERSION, ObjectRef};
use postern_api::names::InstanceNames;
use postern_envoy::Options as Encoding;
use postern_probes::{Metrics, Ready};
use postern_refs::{Kind, Snapshot};
use postern_translate::Settings;
use postern_watch::kube::{Clients, Coverage, EntitlementSource, KubeSource, Options};
use postern_watch::lease::{LeaseHolder, Timing};
use postern_watch::status::StatusWriter;
use postern_watch::{Scope, Watch, WatchState};
use postern_xds::server;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::engine::{Counted, Engine};
use crate::envoys::Envoys;
use crate::keys::store::{KubernetesStore, Names};
use crate::keys::{Keeper, Lifetimes, Subject, SystemClock, subject};

/// How long after a start Envoys may take to connect again before it is said that none serves. They
/// try every few seconds.
const RETURN_OF_ENVOYS: Duration = Duration::from_secs(15);

/// How the control plane runs.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The namespace, of the tenant and of this pod.
    #[arg(long, env = "POSTERN_NAMESPACE")]
    pub namespace: String,
    /// The GatewayInstance.
    #[arg(long, env = "POSTERN_INSTANCE")]
    pub instance: String,
    /// The name of this pod, by which it holds the Lease.
    #[arg(long, env = "POSTERN_POD_NAME")]
    pub pod_name: String,
    /// Where xDS is served to the instance's Envoys.
    #[arg(long, env = "POSTERN_XDS_ADDRESS", default_value = "0.0.0.0:15010")]
    pub xds_address: SocketAddr,
    /// Where /healthz and /readyz are answered.
    #[arg(long, env = "POSTERN_PROBES_ADDRESS", default_value = "0.0.0.0:15020")]
    pub probes_address: SocketAddr,
    /// Where /metrics is answered.
    #[arg(long, env = "POSTERN_METRICS_ADDRESS", default_value = "0.0.0.0:15021")]
    pub metrics_address: SocketAddr,
    /// Seconds that certificates between Envoys and control plane live.
    #[arg(long, env = "POSTERN_CERTIFICATE_SECONDS")]
    pub certificate_seconds: Option<u64>,
    /// Seconds that the Lease lasts, within which its holder must renew it or stop, and between two
    /// renewals.
    #[arg(
        long,
        env = "POSTERN_LEASE_SECONDS",
        value_delimiter = ',',
        default_value = "137,107,26"
    )]
    pub lease_seconds: Vec<u64>,
}

/// Runs until it is asked to stop. The error is one line.
///
/// # Errors
/// If the cluster cannot be reached or a port cannot be listened on.
pub async fn run(arguments: RunArgs) -> Result<()> {
    let config = kube::Config::infer()
        .await
        .context("no cluster to connect to: run in a pod, or set KUBECONFIG")?;
    run_on(config, arguments).await
}

/// Runs against one cluster.
///
/// # Errors
/// As [`run`].
pub async fn run_on(config: kube::Config, arguments: RunArgs) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    let lifetimes = match arguments.certificate_seconds {
        Some(seconds) => Lifetimes::with_leaf(Duration::from_secs(seconds))?,
        None => Lifetimes::default(),
    };
    let timing = Timing::of_seconds(&arguments.lease_seconds)
        .context("--lease-seconds: three numbers, each greater than the next, are expected")?;
    let clients = Clients::new(&config).context("cannot connect to the API server")?;
    let mut tasks = JoinSet::new();
    let ready = Ready::default();
    let (_, probes) = postern_probes::serve(arguments.probes_address, ready.clone())
        .await
        .with_context(|| format!("cannot listen for probes on {}", arguments.probes_address))?;
    tasks.spawn(probes);
    let mut stop = std::pin::pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    // Before it nothing can be done: it says whose everything is, the Lease too.
    let contract = tokio::select! {
        contract = Contract::read(&clients, &arguments) => contract?,
        () = &mut stop => return Ok(()),
    };
    let meta = lease(&arguments, &contract.last);
    let lease = LeaseHolder::spawn(clients.general(), meta, &arguments.pod_name, timing);
    let serving = serve(
        &clients, &arguments, lifetimes, contract, &lease, &ready, &mut tasks,
    );
    let ended = tokio::select! {
        ended = serving => ended,
        () = &mut stop => Ok(()),
    };
    // Nothing is written any more: another may begin at once.
    lease.release().await;
    ended
}

/// The Entitlement, which goes on being read.
struct Contract {
    _source: EntitlementSource,
    next: watch::Receiver<Option<Arc<EntitlementStatus>>>,
    last: Arc<EntitlementStatus>,
}

impl Contract {
    /// Waits for the first.
    async fn read(clients: &Clients, arguments: &RunArgs) -> Result<Contract> {
        let name = InstanceNames::new(&arguments.instance).entitlement();
        let source = EntitlementSource::spawn(clients, &arguments.namespace, &name)?;
        let mut next = source.statuses();
        let last = next_contract(&mut next).await?;
        tracing::info!(gateways = last.gateways.len(), "the Entitlement is read");
        Ok(Contract {
            _source: source,
            next,
            last,
        })
    }
}

async fn serve(
    clients: &Clients,
    arguments: &RunArgs,
    lifetimes: Lifetimes,
    mut contract: Contract,
    lease: &LeaseHolder,
    ready: &Ready,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let mut entitlement = contract.last.clone();
    let (whom, subjects) = watch::channel(Arc::new(subject_of(arguments, &entitlement)?));
    let store = store(clients, arguments, &entitlement);
    let mut keeper = Keeper::new(store, SystemClock, lifetimes, subjects, lease.leader());
    let source = KubeSource::spawn(
        clients.clone(),
        scope(&entitlement),
        Options::new(Some(arguments.namespace.as_str().into())),
    );
    let tls = keeper.ready().await;
    tasks.spawn(async move { match keeper.run().await {} });
    tracing::info!("keys are there");

    let envoys = Arc::new(Envoys::new(
        &entitlement.trust_domain,
        &arguments.namespace,
        &arguments.instance,
    ));
    let mut acknowledged = envoys.changes();
    let counters = Arc::new(server::Metrics::default());
    serve_metrics(arguments, &counters, tasks).await?;
    let listener = TcpListener::bind(arguments.xds_address)
        .await
        .with_context(|| format!("cannot listen for Envoys on {}", arguments.xds_address))?;
    let options = server::Options {
        metrics: counters,
        ..server::Options::default()
    };
    let directory = envoys.clone();
    tasks.spawn(async move {
        let served = server::serve(listener, tls, directory, options, std::future::pending());
        if let Err(error) = served.await {
            tracing::error!(%error, "the xDS server ended");
        }
    });

    let writer = StatusWriter::spawn(
        clients.general(),
        source.kinds(),
        source.observed(),
        lease.leader(),
    );
    let mut engine = Engine::new(
        Settings::default(),
        Encoding::default(),
        Counted::ReadyEndpoints,
        envoys,
    );
    let return_of_envoys = tokio::time::Instant::now() + RETURN_OF_ENVOYS;
    let mut early = true;
    let mut snapshots = source.snapshots();
    let mut coverage = source.coverage();
    loop {
        let snapshot: Option<Arc<Snapshot>> = snapshots.borrow_and_update().clone();
        let covered = coverage.borrow_and_update().clone();
        if let Some(snapshot) = &snapshot {
            engine.update(snapshot, &settled(&entitlement, &covered));
            for (origin, reason) in engine.refused() {
                tracing::warn!(%origin, %reason, "left out: Envoy would refuse it");
            }
            ready.set(true);
        }
        // An acknowledgement changes statuses and nothing else.
        loop {
            if snapshot.is_some() {
                writer.set(Arc::new(if early {
                    engine.statuses_for_now()
                } else {
                    engine.statuses()
                }));
            }
            tokio::select! {
                () = tokio::time::sleep_until(return_of_envoys), if early => {
                    early = false;
                    continue;
                }
                changed = snapshots.changed() => changed.context("the API server is no longer watched")?,
                changed = coverage.changed() => changed.context("the API server is no longer watched")?,
                changed = acknowledged.changed() => {
                    changed.context("the Envoys are gone")?;
                    continue;
                }
                next = next_contract(&mut contract.next) => {
                    entitlement = next?;
                    source.set_scope(scope(&entitlement));
                    whom.send_replace(Arc::new(subject_of(arguments, &entitlement)?));
                }
            }
            break;
        }
    }
}

/// The next Entitlement that can be read.
async fn next_contract(
    contracts: &mut watch::Receiver<Option<Arc<EntitlementStatus>>>,
) -> Result<Arc<EntitlementStatus>> {
    loop {
        contracts
            .changed()
            .await
            .context("the Entitlement is no longer watched")?;
        let next = contracts.borrow_and_update().clone();
        match next {
            Some(contract) if (1..=CONTRACT_VERSION + 1).contains(&contract.contract_version) => {
                return Ok(contract);
            }
            Some(contract) => tracing::error!(
                version = contract.contract_version,
                "the Entitlement's version cannot be read: the last one goes on; update this control plane"
            ),
            None => {}
        }
    }
}

/// What the Entitlement lets us watch.
fn scope(entitlement: &EntitlementStatus) -> Scope {
    let kinds = entitlement.watches.iter().filter_map(|watch| {
        Some(Watch::namespace(
            Kind::find(&watch.group, &watch.kind)?,
            watch.namespace.as_str(),
        ))
    });
    kinds
        .chain(entitlement.objects.iter().filter_map(watch_of))
        .collect()
}

fn watch_of(object: &ObjectRef) -> Option<Watch> {
    let kind = Kind::find(&object.group, &object.kind)?;
    Some(Watch::object(
        kind,
        object.namespace.as_str(),
        object.name.as_str(),
    ))
}

/// The Entitlement without the objects that are not read yet: a reference to one of them waits, and
/// does not count as one to something that does not exist.
fn settled(entitlement: &EntitlementStatus, coverage: &Coverage) -> EntitlementStatus {
    let mut settled = entitlement.clone();
    settled.objects.retain(|object| {
        watch_of(object)
            .is_some_and(|watch| matches!(coverage.get(&watch), Some(WatchState::Loaded)))
    });
    settled
}

fn subject_of(arguments: &RunArgs, entitlement: &EntitlementStatus) -> Result<Subject> {
    let names = InstanceNames::new(&arguments.instance);
    let dns = subject::service_names(
        &names.control_plane(),
        &arguments.namespace,
        "cluster.local",
    );
    let shards = entitlement.shards.iter().map(|shard| shard.name.clone());
    Subject::new(
        &entitlement.trust_domain,
        &arguments.namespace,
        &arguments.instance,
        dns,
        shards,
    )
    .context("no certificates can be made for this instance")
}

/// The instance, with which goes all that is made for it.
fn owner(entitlement: &EntitlementStatus) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/v1alpha1", postern_api::GROUP),
        kind: "GatewayInstance".into(),
        name: entitlement.instance.name.clone(),
        uid: entitlement.instance.uid.clone(),
        ..OwnerReference::default()
    }
}

/// What the Lease is created with. One that outlived its instance would make the next one of that name
/// wait until it has run out.
fn lease(arguments: &RunArgs, entitlement: &EntitlementStatus) -> ObjectMeta {
    ObjectMeta {
        name: Some(InstanceNames::new(&arguments.instance).lease()),
        namespace: Some(arguments.namespace.clone()),
        owner_references: Some(vec![owner(entitlement)]),
        ..ObjectMeta::default()
    }
}

fn store(
    clients: &Clients,
    arguments: &RunArgs,
    entitlement: &EntitlementStatus,
) -> KubernetesStore {
    let names = InstanceNames::new(&arguments.instance);
    let instance = arguments.instance.clone();
    let labels = BTreeMap::from([
        (
            "app.kubernetes.io/managed-by".to_owned(),
            "postern".to_owned(),
        ),
        (
            "postern.dev/instance".to_owned(),
            arguments.instance.clone(),
        ),
    ]);
    KubernetesStore::new(
        clients.general(),
        &arguments.namespace,
        Names {
            authority: names.ca(),
            public: names.trust(),
            server: names.control_plane_tls(),
            envoy: Arc::new(move |shard| InstanceNames::new(&instance).envoy_tls(shard)),
        },
        &arguments.pod_name,
        labels,
        Some(owner(entitlement)),
    )
}

async fn serve_metrics(
    arguments: &RunArgs,
    counters: &Arc<server::Metrics>,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let counters = counters.clone();
    let text = move || {
        let rows = [
            (
                "postern_xds_acknowledged_total",
                "counter",
                counters.acknowledged_total(),
            ),
            (
                "postern_xds_refused_total",
                "counter",
                counters.refused_total(),
            ),
            (
                "postern_xds_denied_total",
                "counter",
                counters.denied_total(),
            ),
            (
                "postern_xds_turned_away_total",
                "counter",
                counters.turned_away_total(),
            ),
            ("postern_xds_streams", "gauge", counters.streams()),
        ];
        rows.map(|(name, kind, value)| format!("# TYPE {name} {kind}\n{name} {value}\n"))
            .concat()
    };
    let (_, metrics) = postern_probes::serve(arguments.metrics_address, Metrics(text))
        .await
        .with_context(|| format!("cannot listen for metrics on {}", arguments.metrics_address))?;
    tasks.spawn(metrics);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str) -> ObjectRef {
        ObjectRef {
            kind: "Secret".into(),
            namespace: "a".into(),
            name: name.into(),
            ..ObjectRef::default()
        }
    }

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        run: RunArgs,
    }

    #[test]
    fn the_lease_goes_with_its_instance() {
        let arguments = ["run", "--namespace=a", "--instance=web", "--pod-name=p"];
        let arguments = <Command as clap::Parser>::parse_from(arguments).run;
        let mut entitlement = EntitlementStatus::default();
        entitlement.instance.name = "web".into();
        entitlement.instance.uid = "uid-of-web".into();
        let meta = lease(&arguments, &entitlement);
        assert_eq!(meta.name.as_deref(), Some("postern-web-lease"));
        let owners = meta.owner_references.expect("an owner");
        assert_eq!((owners.len(), &*owners[0].uid), (1, "uid-of-web"));
        // The control plane has no right on the instance's finalizers.
        assert_eq!(owners[0].block_owner_deletion, None);
    }

    #[test]
    fn an_object_that_is_not_read_yet_does_not_count_as_absent() {
        let entitlement = EntitlementStatus {
            objects: vec![
                secret("read"),
                secret("loading"),
                secret("refused"),
                secret("new"),
            ],
            ..EntitlementStatus::default()
        };
        let coverage = Coverage::from(
            [
                ("read", WatchState::Loaded),
                ("loading", WatchState::Loading(None)),
                ("refused", WatchState::Refused),
            ]
            .map(|(name, state)| (Watch::object(Kind::Secret, "a", name), state)),
        );
        assert_eq!(settled(&entitlement, &coverage).objects, [secret("read")]);
    }
}
