//! What all runs share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postern_api::entitlement::EntitlementStatus;
use postern_api::reasons::Reason;
use postern_consent::Way;
use postern_refs::{Key, Name};
use postern_stamp::{ApiServers, Images, Settings};

use crate::events::Events;
use crate::live::Live;
use crate::problem::Problem;
use crate::status::Wanted;

/// What the installation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Images of the pods.
    pub images: Images,
    /// Where control planes reach API servers, if the admin says so; else it is looked up.
    pub api_servers: Option<ApiServers>,
    /// Addresses of nodes for node ports, if the admin says so; else they are looked up.
    pub nodes: Vec<IpAddr>,
    /// Namespaces whose pods may read metrics.
    pub monitoring_namespaces: BTreeSet<String>,
    /// The address that pods listen on.
    pub listen: IpAddr,
    /// Seconds that certificates between Envoys and control planes live, if the admin says so.
    pub certificate_seconds: Option<u64>,
    /// The operator's own namespace.
    pub namespace: String,
    /// How long an exposure that was left goes on when the one asked for is ready.
    pub linger: Duration,
}

/// What was looked up around us, the same for all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The endpoints of `default/kubernetes`; `None` until they are known.
    pub api_servers: Option<BTreeSet<SocketAddr>>,
    /// Addresses of nodes; `None` until they are known or known to be unknowable.
    pub nodes: Option<Vec<IpAddr>>,
}

/// What is remembered of a tenant between runs.
#[derive(Clone, Debug, Default)]
pub struct Tenant {
    /// The contract that was written last: where a deleted Entitlement gets its ports from.
    pub contract: Option<EntitlementStatus>,
    /// The instance's status that was written or read last.
    pub written: Option<Wanted>,
    /// Exposures that were left, and since when what was asked for instead is ready.
    pub left: BTreeMap<Way, Instant>,
    /// The authorities that routers are told, as they were published last; see [`crate::trust`].
    pub trust: Option<String>,
    /// The instance's UID and those of its bare Gateways when it was last seen to that they own it.
    pub owners: Option<(Name, BTreeSet<Name>)>,
}

/// What all runs share.
pub struct Shared {
    /// For reads of single objects and for writes.
    pub client: kube::Client,
    /// What the installation says.
    pub installation: Installation,
    /// For events.
    pub events: Events,
    live: Mutex<Live>,
    tenants: Mutex<BTreeMap<Key, Tenant>>,
    refusals: Mutex<BTreeMap<Key, Reason>>,
    unmade: Mutex<BTreeMap<Key, Problem>>,
}

impl Shared {
    /// With nothing seen yet.
    #[must_use]
    pub fn new(client: kube::Client, pod: &str, installation: Installation) -> Arc<Shared> {
        Arc::new(Shared {
            events: Events::new(client.clone(), pod),
            client,
            installation,
            live: Mutex::default(),
            tenants: Mutex::default(),
            refusals: Mutex::default(),
            unmade: Mutex::default(),
        })
    }

    /// What is in the cluster of what was stamped. Never held across an await.
    pub fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    /// What is remembered of a tenant. It runs alone, so nobody else changes it meanwhile.
    #[must_use]
    pub fn tenant(&self, key: &Key) -> Tenant {
        lock(&self.tenants).get(key).cloned().unwrap_or_default()
    }

    /// Remembers a tenant; `None` forgets it.
    pub fn remember(&self, key: &Key, tenant: Option<Tenant>) {
        match tenant {
            Some(tenant) => lock(&self.tenants).insert(key.clone(), tenant),
            None => lock(&self.tenants).remove(key),
        };
    }

    /// Notes whether an instance gets nothing, and why. Returns whether that is news.
    pub fn note_refusal(&self, key: &Key, reason: Option<Reason>) -> bool {
        let mut refusals = lock(&self.refusals);
        let before = match reason {
            Some(reason) => refusals.insert(key.clone(), reason),
            None => refusals.remove(key),
        };
        before != reason
    }

    /// Why an instance gets nothing, if it was refused.
    #[must_use]
    pub fn refusal(&self, key: &Key) -> Option<Reason> {
        lock(&self.refusals).get(key).copied()
    }

    /// Notes what keeps an instance from being made for Gateways that name none, if anything does.
    pub fn note_unmade(&self, key: &Key, problem: Option<Problem>) {
        let mut unmade = lock(&self.unmade);
        match problem {
            Some(problem) => unmade.insert(key.clone(), problem),
            None => unmade.remove(key),
        };
    }

    /// What keeps an instance from being made.
    #[must_use]
    pub fn unmade(&self, key: &Key) -> Option<Problem> {
        lock(&self.unmade).get(key).cloned()
    }

    /// What stamping needs to know; `None` until enough was looked up.
    #[must_use]
    pub fn settings(&self, around: &Surroundings) -> Option<Settings> {
        let installation = &self.installation;
        let looked_up = || around.api_servers.clone().map(ApiServers::Endpoints);
        Some(Settings {
            images: installation.images.clone(),
            api_servers: installation.api_servers.clone().or_else(looked_up)?,
            monitoring_namespaces: installation.monitoring_namespaces.clone(),
            listen: installation.listen,
            certificate_seconds: installation.certificate_seconds,
            operator_namespace: installation.namespace.clone(),
        })
    }

    /// Addresses for node ports.
    #[must_use]
    pub fn nodes(&self, around: &Surroundings) -> Vec<IpAddr> {
        match self.installation.nodes.is_empty() {
            true => around.nodes.clone().unwrap_or_default(),
            false => self.installation.nodes.clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change leaves the maps whole, whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
