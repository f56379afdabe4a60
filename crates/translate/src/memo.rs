//! What is kept from pass to pass, and the pass itself.
//!
//! A pass walks the maps of the Snapshot whose `Arc` changed, comparing pointers, and translates
//! only the keys that differ, the routes that refer to them, and the clusters that they feed. What
//! comes out equal to the last result is the same `Arc` as then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use postern_api::EntitlementStatus;
use postern_model::{Cluster, ClusterId, Endpoints, Host, Proxy, Text};
use postern_refs::permit::Permissions;
use postern_refs::status::Statuses;
use postern_refs::{Key, Kind, Map, Name, Snapshot};

use crate::backends::BackendPort;
use crate::endpoints::{self, SliceIndex};
use crate::frame::{self, Frames};
use crate::index::Index;
use crate::quota;
use crate::report::{GatewayReport, ListenerReport};
use crate::route::{self, Context, RouteOutcome};
use crate::secrets::Certificates;
use crate::tables::Tables;
use crate::{Settings, Translation, Work};

/// What is kept from pass to pass. Without one (a new one each time) the result is the same, slower.
#[derive(Debug, Default)]
pub struct Memo {
    settings: Settings,
    /// What the last pass did.
    work: Work,
    snapshot: Snapshot,
    entitlement: EntitlementStatus,
    permissions: Permissions,
    owned: Vec<Host>,
    certificates: Certificates,
    frames: Frames,
    routes: BTreeMap<Key, RouteOutcome>,
    /// Routes that are over the quota.
    over: BTreeSet<Key>,
    /// Which routes look at a Service.
    readers: Index,
    attached: BTreeMap<(Key, Name), u32>,
    slices: SliceIndex,
    shards: BTreeMap<Text, Shard>,
    statuses: Arc<Statuses>,
    gateways: Arc<BTreeMap<Key, Arc<GatewayReport>>>,
}

/// What one shard's Envoys serve.
#[derive(Debug, Default)]
struct Shard {
    tables: Tables,
    uses: BTreeMap<BackendPort, usize>,
    clusters: Arc<BTreeMap<ClusterId, Arc<Cluster>>>,
    endpoints: Arc<BTreeMap<ClusterId, Arc<Endpoints>>>,
    proxy: Proxy,
}

impl Memo {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Settings) -> Memo {
        Memo {
            settings,
            ..Memo::default()
        }
    }

    /// What the last pass did.
    #[must_use]
    pub fn work(&self) -> &Work {
        &self.work
    }

    pub(crate) fn pass(
        &mut self,
        snapshot: &Snapshot,
        entitlement: &EntitlementStatus,
    ) -> Translation {
        self.work = Work::default();
        let before = std::mem::replace(&mut self.snapshot, snapshot.clone());
        let entitled_anew = self.entitlement != *entitlement;
        if entitled_anew {
            self.entitlement = entitlement.clone();
            self.permissions = Permissions::of(entitlement);
            self.owned = entitlement
                .hostnames
                .iter()
                .map(|name| Host::parse(name))
                .collect();
        }
        let reframed = self.reframe(&before, entitled_anew);
        let mut dirty_ports: BTreeSet<BackendPort> = BTreeSet::new();
        let concerned = self.concerned_services(&before);
        self.routes(
            &before,
            reframed || entitled_anew,
            &concerned.services,
            &mut dirty_ports,
        );
        for service in concerned.services.iter().chain(&concerned.endpoints) {
            let from = BackendPort {
                service: service.clone(),
                port: 0,
            };
            for shard in self.shards.values() {
                let ports = shard.uses.range(from.clone()..).map(|(port, _)| port);
                dirty_ports.extend(ports.take_while(|port| port.service == *service).cloned());
            }
        }
        self.settle(&dirty_ports);
        self.report_gateways();
        Translation {
            proxies: self
                .shards
                .iter()
                .map(|(name, shard)| (name.clone(), shard.proxy.clone()))
                .collect(),
            gateways: self.gateways.clone(),
            routes: self.statuses.clone(),
            ready: self.ready(),
        }
    }

    /// Where the Envoys of each Gateway are that get traffic: few, and looked up afresh.
    fn ready(&self) -> BTreeMap<Key, BTreeSet<IpAddr>> {
        let entitled = self.entitlement.gateways.iter().map(|gateway| {
            let key = Key::new(gateway.namespace.as_str(), gateway.name.as_str());
            let service = key.sibling(key.namespace.clone(), gateway.service.as_str());
            let ready = endpoints::ready(&service, &self.snapshot, &self.slices);
            (key, ready)
        });
        entitled
            .filter(|(key, _)| self.frames.contains_key(key))
            .collect()
    }

    /// Looks at the Gateways again if anything they depend on changed. Whether any frame did.
    fn reframe(&mut self, before: &Snapshot, entitled_anew: bool) -> bool {
        let same = !entitled_anew
            && Arc::ptr_eq(&before.gateways, &self.snapshot.gateways)
            && Arc::ptr_eq(&before.secrets, &self.snapshot.secrets);
        if same {
            return false;
        }
        let frames = frame::frames(
            &self.snapshot,
            &self.entitlement,
            &self.permissions,
            &mut self.certificates,
            &self.frames,
        );
        self.work.frames = frames.len();
        let changed = frames.len() != self.frames.len()
            || frames.iter().any(|(key, fresh)| {
                !self
                    .frames
                    .get(key)
                    .is_some_and(|old| Arc::ptr_eq(old, fresh))
            });
        self.frames = frames;
        if !changed && !entitled_anew {
            return false;
        }
        let mut bases: BTreeMap<Text, BTreeMap<postern_model::TableId, Vec<Host>>> =
            BTreeMap::new();
        for shard in &self.entitlement.shards {
            bases.entry(shard.name.as_str().into()).or_default();
        }
        for frame in self.frames.values() {
            bases
                .entry(frame.shard.clone())
                .or_default()
                .extend(frame::base_hosts(frame));
        }
        // A shard that is gone takes its tables and clusters along: its routes are placed anew.
        self.shards.retain(|name, _| bases.contains_key(name));
        for (name, wanted) in &bases {
            self.shards
                .entry(name.clone())
                .or_default()
                .tables
                .set_bases(wanted);
        }
        true
    }

    /// The Services whose own content, and those whose endpoints, differ from the last pass.
    fn concerned_services(&mut self, before: &Snapshot) -> Concerned {
        let services = changed(&before.services, &self.snapshot.services);
        let mut endpoints = BTreeSet::new();
        for slice in changed(&before.endpoint_slices, &self.snapshot.endpoint_slices) {
            let now = self
                .snapshot
                .endpoint_slices
                .get(&slice)
                .and_then(|object| object.valid());
            endpoints.extend(self.slices.update(&slice, now));
        }
        Concerned {
            services: services.into_iter().collect(),
            endpoints,
        }
    }

    fn routes(
        &mut self,
        before: &Snapshot,
        all: bool,
        services: &BTreeSet<Key>,
        dirty_ports: &mut BTreeSet<BackendPort>,
    ) {
        let mut over = std::mem::take(&mut self.over);
        let mut turned = Vec::new();
        if all || !Arc::ptr_eq(&before.http_routes, &self.snapshot.http_routes) {
            let most = self.entitlement.quotas.routes;
            let now = quota::over(&self.snapshot.http_routes, &self.frames, most);
            turned = over.symmetric_difference(&now).cloned().collect();
            over = now;
        }
        self.over = over;
        let dirty: BTreeSet<Key> = if all {
            before
                .http_routes
                .keys()
                .chain(self.snapshot.http_routes.keys())
                .cloned()
                .collect()
        } else {
            let readers = services
                .iter()
                .flat_map(|service| self.readers.get(service))
                .cloned();
            changed(&before.http_routes, &self.snapshot.http_routes)
                .into_iter()
                .chain(readers)
                .chain(turned)
                .collect()
        };
        let snapshot = self.snapshot.clone();
        for key in dirty {
            let old = self.routes.remove(&key);
            let new = snapshot.http_routes.get(&key).map(|object| {
                self.work.routes += 1;
                let context = Context {
                    snapshot: &snapshot,
                    permissions: &self.permissions,
                    frames: &self.frames,
                    owned: &self.owned,
                    over: &self.over,
                    most: self.entitlement.quotas.routes,
                };
                route::translate(object, &context, old.as_ref())
            });
            self.work.entries += new.as_ref().map_or(0, |outcome| outcome.made);
            self.exchange(&key, old.as_ref(), new.as_ref(), all, dirty_ports);
            if let Some(new) = new {
                self.routes.insert(key, new);
            }
        }
    }

    /// Takes a route's old outcome out of everything, and its new one in.
    fn exchange(
        &mut self,
        key: &Key,
        old: Option<&RouteOutcome>,
        new: Option<&RouteOutcome>,
        all: bool,
        dirty_ports: &mut BTreeSet<BackendPort>,
    ) {
        let none = Vec::new();
        let (before, after) = (
            old.map_or(&none, |o| &o.placements),
            new.map_or(&none, |o| &o.placements),
        );
        // After a change of the frames the tables may be new ones, so every placement is made again.
        if all || before.len() != after.len() || before.iter().zip(after).any(|(l, r)| !l.same(r)) {
            for placement in before {
                if let Some(shard) = self.shards.get_mut(&placement.shard) {
                    shard
                        .tables
                        .remove(&placement.table, &placement.host, &placement.entry);
                }
            }
            for placement in after {
                if let Some(shard) = self.shards.get_mut(&placement.shard) {
                    shard
                        .tables
                        .insert(&placement.table, &placement.host, &placement.entry);
                }
            }
        }
        for (shard, port) in old.iter().flat_map(|o| &o.uses) {
            if let Some(shard) = self.shards.get_mut(shard)
                && let Some(count) = shard.uses.get_mut(port)
            {
                *count -= 1;
                if *count == 0 {
                    shard.uses.remove(port);
                    dirty_ports.insert(port.clone());
                }
            }
        }
        for (shard, port) in new.iter().flat_map(|o| &o.uses) {
            if let Some(shard) = self.shards.get_mut(shard) {
                let count = shard.uses.entry(port.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    dirty_ports.insert(port.clone());
                }
            }
        }
        for service in old.iter().flat_map(|o| &o.services) {
            self.readers.remove(service, key);
        }
        for service in new.iter().flat_map(|o| &o.services) {
            self.readers.insert(service, key);
        }
        for listener in old.iter().flat_map(|o| &o.attached) {
            if let Some(count) = self.attached.get_mut(listener) {
                *count -= 1;
                if *count == 0 {
                    self.attached.remove(listener);
                }
            }
        }
        for listener in new.iter().flat_map(|o| &o.attached) {
            *self.attached.entry(listener.clone()).or_default() += 1;
        }
        let told = old.map(|o| &o.status);
        let telling = new.map(|o| &o.status);
        match telling {
            Some(status) if told.is_some_and(|told| Arc::ptr_eq(told, status)) => {}
            Some(status) => {
                Arc::make_mut(&mut self.statuses)
                    .insert((Kind::HttpRoute, key.clone()), status.clone());
            }
            None => {
                Arc::make_mut(&mut self.statuses).remove(&(Kind::HttpRoute, key.clone()));
            }
        }
    }

    fn settle(&mut self, dirty_ports: &BTreeSet<BackendPort>) {
        for (name, shard) in &mut self.shards {
            for port in dirty_ports {
                let made = shard
                    .uses
                    .contains_key(port)
                    .then(|| endpoints::cluster(port, &self.snapshot, &self.slices, &self.settings))
                    .flatten();
                self.work.clusters += 1;
                shard.set_cluster(&port.cluster(), made);
            }
            let (tables, hosts) = shard.tables.settle();
            self.work.hosts += hosts;
            let mut listeners = BTreeMap::new();
            let mut secrets = BTreeMap::new();
            for frame in self.frames.values().filter(|frame| frame.shard == *name) {
                listeners.extend(
                    frame
                        .served
                        .iter()
                        .map(|listener| (listener.name.clone(), listener.clone())),
                );
                secrets.extend(
                    frame
                        .secrets
                        .iter()
                        .map(|(id, secret)| (id.clone(), secret.clone())),
                );
            }
            keep(&mut shard.proxy.listeners, listeners);
            keep(&mut shard.proxy.secrets, secrets);
            shard.proxy.tables = tables;
            shard.proxy.clusters = shard.clusters.clone();
            shard.proxy.endpoints = shard.endpoints.clone();
        }
    }

    fn report_gateways(&mut self) {
        let mut made = BTreeMap::new();
        for (key, frame) in &self.frames {
            let listeners = frame
                .listeners
                .iter()
                .map(|listener| ListenerReport {
                    name: listener.name.clone(),
                    attached: self
                        .attached
                        .get(&(key.clone(), listener.name.clone()))
                        .copied()
                        .unwrap_or(0),
                    supported_kinds: listener.supported_kinds.clone(),
                    problems: listener.problems.clone(),
                    needs_listeners: frame
                        .served
                        .iter()
                        .filter(|served| served.public_port == listener.spec.port)
                        .map(|served| served.name.clone())
                        .collect(),
                    needs_table: listener.table.clone(),
                })
                .collect();
            let report = GatewayReport {
                key: key.clone(),
                generation: frame.generation,
                shard: frame.shard.clone(),
                addresses: frame.addresses.clone(),
                awaits_address: frame.awaits_address,
                exposed: frame.exposed.clone(),
                problems: frame.problems.clone(),
                listeners,
            };
            let report = match self.gateways.get(key) {
                Some(old) if **old == report => old.clone(),
                _ => Arc::new(report),
            };
            made.insert(key.clone(), report);
        }
        keep(&mut self.gateways, made);
    }
}

struct Concerned {
    services: BTreeSet<Key>,
    endpoints: BTreeSet<Key>,
}

impl Shard {
    fn set_cluster(&mut self, id: &ClusterId, made: Option<(Arc<Cluster>, Arc<Endpoints>)>) {
        match made {
            Some((cluster, endpoints)) => {
                if self.clusters.get(id) != Some(&cluster) {
                    Arc::make_mut(&mut self.clusters).insert(id.clone(), cluster);
                }
                if self.endpoints.get(id) != Some(&endpoints) {
                    Arc::make_mut(&mut self.endpoints).insert(id.clone(), endpoints);
                }
            }
            None => {
                if self.clusters.contains_key(id) {
                    Arc::make_mut(&mut self.clusters).remove(id);
                    Arc::make_mut(&mut self.endpoints).remove(id);
                }
            }
        }
    }
}

/// Replaces a shared map, unless nothing in it differs.
fn keep<K: Ord, V>(known: &mut Arc<BTreeMap<K, Arc<V>>>, fresh: BTreeMap<K, Arc<V>>) {
    let same = known.len() == fresh.len()
        && known
            .iter()
            .zip(&fresh)
            .all(|((lk, lv), (rk, rv))| lk == rk && Arc::ptr_eq(lv, rv));
    if !same {
        *known = Arc::new(fresh);
    }
}

/// The keys whose objects differ, by pointer.
fn changed<T>(before: &Map<T>, now: &Map<T>) -> Vec<Key> {
    if Arc::ptr_eq(before, now) {
        return Vec::new();
    }
    let mut keys = Vec::new();
    let (mut left, mut right) = (before.iter().peekable(), now.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some((lk, lv)), Some((rk, rv))) => match lk.cmp(rk) {
                std::cmp::Ordering::Less => {
                    keys.push((*lk).clone());
                    left.next();
                }
                std::cmp::Ordering::Greater => {
                    keys.push((*rk).clone());
                    right.next();
                }
                std::cmp::Ordering::Equal => {
                    if !Arc::ptr_eq(lv, rv) {
                        keys.push((*lk).clone());
                    }
                    left.next();
                    right.next();
                }
            },
            (Some((key, _)), None) => {
                keys.push((*key).clone());
                left.next();
            }
            (None, Some((key, _))) => {
                keys.push((*key).clone());
                right.next();
            }
            (None, None) => return keys,
        }
    }
}

impl crate::route::Placement {
    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry)
            && self.shard == other.shard
            && self.table == other.table
            && self.host == other.host
    }
}
