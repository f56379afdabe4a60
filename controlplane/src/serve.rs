//! `serve --from DIR`: the control plane without Kubernetes.
//!
//! A directory holds every kind that a tenant or an admin applies. Consent is computed in this
//! process, by the code that the operator runs; each GatewayInstance gets an xDS server and a
//! certificate authority of its own, as on a cluster. This shows routing, not tenancy: one process
//! holds the keys of all of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use postern_api::EntitlementStatus;
use postern_api::entitlement::ShardRef;
use postern_consent::{Facts, consent, with_missing};
use postern_envoy::Options;
use postern_refs::status::{self, Statuses};
use postern_refs::{Key, Snapshot, instance};
use postern_translate::Settings;
use postern_watch::dir::DirSource;
use postern_xds::server;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::engine::{Counted, Engine};
use crate::envoys::Envoys;
use crate::keys::{Keeper, Lifetimes, Part, Subject, SystemClock, store::DirectoryStore};
use crate::tell::Teller;

/// How long keys may take to be made and written to a directory.
const KEYS: std::time::Duration = std::time::Duration::from_secs(15);

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct Serve {
    /// A directory with YAML and JSON files.
    pub from: PathBuf,
    /// Where keys and the description of each instance go.
    pub state: PathBuf,
    /// The address that xDS servers and Envoys listen on.
    pub bind: IpAddr,
}

/// What whoever starts an instance's Envoy needs to know: `<state>/<namespace>/<name>/instance.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Where its control plane serves xDS.
    pub xds: SocketAddr,
    /// The identity of its Envoys.
    pub identity: String,
    /// The directory with the certificate of its Envoys.
    pub tls_dir: PathBuf,
    /// Where it listens.
    pub ports: Vec<Port>,
}

/// One port of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The Gateway.
    pub gateway: String,
    /// The port of its listeners.
    pub port: u16,
    /// The port that Envoy listens on.
    pub container_port: u16,
}

/// One instance.
struct Tenant {
    engine: Engine,
    entitlement: EntitlementStatus,
    subject: watch::Sender<Arc<Subject>>,
    xds: SocketAddr,
    description: Option<Description>,
    /// Its xDS server, its keys, and the relay of its acknowledgements; they end with it.
    _tasks: JoinSet<()>,
    _leader: watch::Sender<bool>,
}

/// Serves until the process is told to end.
///
/// # Errors
/// Where the directories cannot be read or nothing can be listened on.
pub async fn serve(options: Serve) -> anyhow::Result<()> {
    anyhow::ensure!(
        options.from.is_dir(),
        "{} is no directory; name one with YAML files",
        options.from.display()
    );
    std::fs::create_dir_all(&options.state)
        .with_context(|| format!("cannot make {}", options.state.display()))?;
    let source = DirSource::spawn(&options.from);
    let (mut snapshots, mut problems) = (source.snapshots(), source.problems());
    let acknowledged = Arc::new(Notify::new());
    let mut tenants: BTreeMap<Key, Tenant> = BTreeMap::new();
    let mut teller = Teller::default();
    loop {
        teller.files(&problems.borrow_and_update());
        let snapshot = snapshots.borrow_and_update().clone();
        if let Some(snapshot) = snapshot {
            let made = with_missing((*snapshot).clone(), &facts());
            let snapshot = instance::with_gateways(made);
            update(
                &options,
                &snapshot,
                &mut tenants,
                &acknowledged,
                &mut teller,
            )
            .await?;
        }
        loop {
            let mut statuses = Statuses::new();
            for tenant in tenants.values() {
                status::merge(&mut statuses, tenant.engine.statuses());
            }
            teller.statuses(&statuses);
            tokio::select! {
                changed = snapshots.changed() => {
                    changed.context("the directory is no longer watched")?;
                    break;
                }
                changed = problems.changed() => {
                    changed.context("the directory is no longer watched")?;
                    break;
                }
                () = acknowledged.notified() => {}
            }
        }
    }
}

async fn update(
    options: &Serve,
    snapshot: &Snapshot,
    tenants: &mut BTreeMap<Key, Tenant>,
    acknowledged: &Arc<Notify>,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    tenants.retain(|key, _| {
        let stays = snapshot.instances.contains_key(key);
        if !stays {
            teller.say(&format!(
                "GatewayInstance {key}: is gone; its Envoys lose their control plane"
            ));
        }
        stays
    });
    let facts = facts();
    for key in snapshot.instances.keys() {
        let before = tenants.get(key).map(|tenant| &tenant.entitlement);
        let found = consent(snapshot, key, before, &facts);
        if let Some(refusal) = &found.refusal {
            teller.refusal(
                key,
                Some(&format!("{}: {}", refusal.reason, refusal.message)),
            );
            // After a mistake of the tenant's, what serves goes on; what an admin took away ends.
            if refusal.revokes() {
                tenants.remove(key);
            }
            continue;
        }
        teller.refusal(key, None);
        let tenant = match tenants.entry(key.clone()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(start(options, key, &found.entitlement, acknowledged).await?)
            }
        };
        tenant.entitlement = found.entitlement;
        let subject = subject(key, &tenant.entitlement.shards)?;
        tenant.subject.send_if_modified(|known| {
            let differs = **known != subject;
            if differs {
                *known = Arc::new(subject);
            }
            differs
        });
        tenant.engine.update(snapshot, &tenant.entitlement);
        for (origin, reason) in tenant.engine.refused() {
            teller.say(&format!("{origin}: {reason}"));
        }
        describe(options, key, tenant)?;
    }
    Ok(())
}

/// Nobody makes a GatewayClass here.
fn facts() -> Facts {
    Facts {
        classes: [postern_api::GATEWAY_CLASS.into()].into(),
        ..Facts::default()
    }
}

fn subject(key: &Key, shards: &[ShardRef]) -> anyhow::Result<Subject> {
    let shards = shards.iter().map(|shard| shard.name.clone());
    Subject::new(
        postern_api::TRUST_DOMAIN,
        &key.namespace,
        &key.name,
        ["localhost".to_owned()],
        shards,
    )
    .with_context(|| format!("GatewayInstance {key}: no certificates can be made for it"))
}

async fn start(
    options: &Serve,
    key: &Key,
    entitlement: &EntitlementStatus,
    acknowledged: &Arc<Notify>,
) -> anyhow::Result<Tenant> {
    let envoys = Arc::new(Envoys::new(
        postern_api::TRUST_DOMAIN,
        &key.namespace,
        &key.name,
    ));
    let settings = Settings {
        allow_loopback: true,
    };
    let encoding = Options {
        bind: options.bind,
        allow_loopback: true,
    };
    let subject = watch::Sender::new(Arc::new(subject(key, &entitlement.shards)?));
    let leader = watch::Sender::new(true);
    let mut keeper = Keeper::new(
        DirectoryStore::new(home(options, key)),
        SystemClock,
        Lifetimes::default(),
        subject.subscribe(),
        leader.subscribe(),
    );
    let made = tokio::time::timeout(KEYS, keeper.ready()).await;
    let Ok(tls) = made else {
        anyhow::bail!(
            "GatewayInstance {key}: no keys can be kept below {}: {}",
            home(options, key).display(),
            keeper.troubles().join("; ")
        );
    };
    let listener = TcpListener::bind((options.bind, 0))
        .await
        .with_context(|| format!("cannot listen on {}", options.bind))?;
    let xds = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    let directory = envoys.clone();
    tasks.spawn(async move {
        let served = server::serve(
            listener,
            tls,
            directory,
            server::Options::default(),
            std::future::pending(),
        );
        if let Err(error) = served.await {
            tracing::error!(%error, "the xDS server ended");
        }
    });
    tasks.spawn(async move { match keeper.run().await {} });
    let mut changes = envoys.changes();
    let relay = acknowledged.clone();
    tasks.spawn(async move {
        while changes.changed().await.is_ok() {
            relay.notify_one();
        }
    });
    Ok(Tenant {
        engine: Engine::new(settings, encoding, Counted::All, envoys),
        entitlement: EntitlementStatus::default(),
        subject,
        xds,
        description: None,
        _tasks: tasks,
        _leader: leader,
    })
}

fn home(options: &Serve, key: &Key) -> PathBuf {
    options.state.join(&*key.namespace).join(&*key.name)
}

fn describe(options: &Serve, key: &Key, tenant: &mut Tenant) -> anyhow::Result<()> {
    let store = DirectoryStore::new(home(options, key));
    let gateways = &tenant.entitlement.gateways;
    let description = Description {
        xds: tenant.xds,
        identity: format!(
            "spiffe://{}/ns/{}/instance/{}/shard/{}",
            postern_api::TRUST_DOMAIN,
            key.namespace,
            key.name,
            postern_api::DEFAULT_SHARD
        ),
        tls_dir: store.path(&Part::Envoy(postern_api::DEFAULT_SHARD.into())),
        ports: gateways
            .iter()
            .flat_map(|gateway| {
                gateway.ports.iter().map(|port| Port {
                    gateway: gateway.name.clone(),
                    port: port.port,
                    container_port: port.container_port,
                })
            })
            .collect(),
    };
    if tenant.description.as_ref() != Some(&description) {
        write(
            &home(options, key).join("instance.json"),
            &serde_json::to_vec_pretty(&description)?,
        )?;
        tenant.description = Some(description);
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::rename(&beside, path).with_context(|| format!("cannot write {}", path.display()))
}
