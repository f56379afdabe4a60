//! The encoder: walks what changed of a [`Proxy`], and keeps the rest.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use postern_model::{
    Cluster, ClusterId, Endpoints, Listener, Origin, Proxy, Secret, SecretId, TableId, Text,
};
use prost::Message;

use crate::listener::{self, Known, Plan};
use crate::resources::{Kind, Resource, Resources};
use crate::tables::TableMemo;
use crate::{check, cluster, secret, version};

/// What differs between places where Postern runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The address that listeners bind to. The default is `0.0.0.0`, every IPv4 address: `::` is
    /// refused on hosts without IPv6.
    pub bind: IpAddr,
    /// Whether endpoints may be loopback addresses: where backends run beside Envoy on one
    /// machine, never in a cluster.
    pub allow_loopback: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            allow_loopback: false,
        }
    }
}

/// How much one [`Encoder::encode`] had to do: the number of items that were encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Route entries.
    pub entries: usize,
    /// Virtual hosts that were joined from their entries.
    pub hosts: usize,
    /// Route tables that were joined from their virtual hosts.
    pub tables: usize,
    /// Clusters.
    pub clusters: usize,
    /// Endpoints of a cluster.
    pub endpoints: usize,
    /// Listeners.
    pub listeners: usize,
    /// Certificates.
    pub secrets: usize,
}

/// Translates the states of one Envoy's [`Proxy`], one after the other. Keeps what it encoded;
/// a new encoder gives the same result, slower.
#[derive(Default)]
pub struct Encoder {
    options: Options,
    last: Proxy,
    out: Resources,
    tables: BTreeMap<TableId, TableMemo>,
    plans: BTreeMap<Text, Plan>,
    /// What is wrong with clusters, endpoints, secrets and listeners, by kind and name.
    problems: BTreeMap<(Kind, Text), Vec<(Origin, Text)>>,
    refused: Vec<(Origin, Text)>,
    refused_changed: bool,
    work: Work,
}

impl Encoder {
    /// A new encoder.
    #[must_use]
    pub fn new(options: Options) -> Encoder {
        Encoder {
            options,
            ..Encoder::default()
        }
    }

    /// Everything that the Envoy should hold for this state. Total: what cannot be sent is left
    /// out or answers 500, and is told by [`Encoder::refused`].
    pub fn encode(&mut self, proxy: &Proxy) -> Resources {
        self.work = Work::default();
        let last = std::mem::replace(&mut self.last, proxy.clone());
        self.clusters(&last, proxy);
        self.endpoints(&last, proxy);
        let secrets = self.secrets(&last, proxy);
        let tables = self.tables(&last, proxy);
        self.listeners(&last, proxy, secrets || tables);
        if std::mem::take(&mut self.refused_changed) {
            self.refused.clear();
            self.refused
                .extend(self.problems.values().flatten().cloned());
            for table in self.tables.values() {
                table.refusals(&mut self.refused);
            }
        }
        self.out.clone()
    }

    /// What the last state has and the Envoy does not get, or not as it is, and why.
    #[must_use]
    pub fn refused(&self) -> &[(Origin, Text)] {
        &self.refused
    }

    /// What the last [`Encoder::encode`] had to do.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work
    }

    fn clusters(&mut self, last: &Proxy, proxy: &Proxy) {
        changes(&last.clusters, &proxy.clusters, |id: &ClusterId, now| {
            let Some(now): Option<&Arc<Cluster>> = now else {
                self.drop(Kind::Cluster, &id.0);
                return;
            };
            if let Err(why) = check::cluster_name(&id.0) {
                self.drop(Kind::Cluster, &id.0);
                self.problem(Kind::Cluster, &id.0, vec![(now.origin.clone(), why)]);
                return;
            }
            self.work.clusters += 1;
            self.problem(Kind::Cluster, &id.0, Vec::new());
            self.put(Kind::Cluster, &id.0, cluster::cluster(now).encode_to_vec());
        });
    }

    /// Endpoints follow the clusters: each has some, if only none, so that none waits for them.
    fn endpoints(&mut self, last: &Proxy, proxy: &Proxy) {
        let mut touched = BTreeSet::new();
        changes(&last.clusters, &proxy.clusters, |id: &ClusterId, now| {
            if now.is_none() || last.clusters.get(id).is_none() {
                touched.insert(id.clone());
            }
        });
        changes(&last.endpoints, &proxy.endpoints, |id: &ClusterId, _| {
            touched.insert(id.clone());
        });
        for id in touched {
            let Some(cluster) = proxy.clusters.get(&id) else {
                self.drop(Kind::Endpoints, &id.0);
                continue;
            };
            if self.out.get(Kind::Cluster, &id.0).is_none() {
                self.drop(Kind::Endpoints, &id.0);
                continue;
            }
            self.work.endpoints += 1;
            let endpoints: Option<&Arc<Endpoints>> = proxy.endpoints.get(&id);
            let list = endpoints.map_or(&[][..], |endpoints| &endpoints.endpoints);
            let (assignment, refused) =
                cluster::endpoints(&id.0, list, self.options.allow_loopback);
            let refused = (refused.into_iter())
                .map(|why| (cluster.origin.clone(), why))
                .collect();
            self.problem(Kind::Endpoints, &id.0, refused);
            self.put(Kind::Endpoints, &id.0, assignment.encode_to_vec());
        }
    }

    /// Says whether some came or went.
    fn secrets(&mut self, last: &Proxy, proxy: &Proxy) -> bool {
        let mut moved = false;
        changes(&last.secrets, &proxy.secrets, |id: &SecretId, now| {
            let Some(now): Option<&Arc<Secret>> = now else {
                moved |= self.drop(Kind::Secret, &id.0);
                return;
            };
            if let Err(why) = secret::sendable(now) {
                moved |= self.drop(Kind::Secret, &id.0);
                self.problem(Kind::Secret, &id.0, vec![(now.origin.clone(), why)]);
                return;
            }
            self.work.secrets += 1;
            self.problem(Kind::Secret, &id.0, Vec::new());
            moved |= self.put(Kind::Secret, &id.0, secret::secret(now).encode_to_vec());
        });
        moved
    }

    /// Says whether some came or went.
    fn tables(&mut self, last: &Proxy, proxy: &Proxy) -> bool {
        let mut moved = false;
        changes(&last.tables, &proxy.tables, |id: &TableId, now| {
            let name = now.filter(|_| check::name("route table", &id.0).is_ok());
            let Some(now) = name else {
                self.refused_changed = true;
                self.tables.remove(id);
                moved |= self.drop(Kind::Routes, &id.0);
                return;
            };
            let memo = self.tables.entry(id.clone()).or_default();
            self.refused_changed |= memo.update(now, &mut self.work);
            let resource = Resource {
                version: memo.version,
                body: memo.body.clone(),
                needs: Arc::clone(&memo.needs),
            };
            moved |= self.put_resource(Kind::Routes, &id.0, resource);
        });
        moved
    }

    fn listeners(&mut self, last: &Proxy, proxy: &Proxy, references: bool) {
        let mut touched = BTreeSet::new();
        changes(&last.listeners, &proxy.listeners, |name: &Text, _| {
            touched.insert(Arc::clone(name));
        });
        if references {
            touched.extend(proxy.listeners.keys().cloned());
        }
        for name in touched {
            let Some(now) = proxy.listeners.get(&name) else {
                self.plans.remove(&name);
                self.drop(Kind::Listener, &name);
                continue;
            };
            let plan = listener::plan(now, &self.out);
            let old: Option<&Arc<Listener>> = last.listeners.get(&name);
            let unchanged = old.is_some_and(|old| old == now);
            if unchanged && self.plans.get(&name) == Some(&plan) {
                continue;
            }
            if plan.chains.is_empty() {
                self.drop(Kind::Listener, &name);
            } else {
                self.work.listeners += 1;
                let message = listener::listener(now, &plan, self.options.bind);
                self.put(Kind::Listener, &name, message.encode_to_vec());
            }
            self.problem(Kind::Listener, &name, plan.refused.clone());
            self.plans.insert(name, plan);
        }
    }

    /// Says whether the name is new.
    fn put(&mut self, kind: Kind, name: &Text, body: Vec<u8>) -> bool {
        let resource = Resource {
            version: version::of_bytes(&body),
            body: Bytes::from(body),
            needs: Arc::default(),
        };
        self.put_resource(kind, name, resource)
    }

    /// Says whether the name is new.
    fn put_resource(&mut self, kind: Kind, name: &Text, resource: Resource) -> bool {
        let held = self.out.get(kind, name);
        if held.is_some_and(|held| held.version == resource.version && held.needs == resource.needs)
        {
            return false;
        }
        self.out
            .of_mut(kind)
            .insert(Arc::clone(name), resource)
            .is_none()
    }

    /// Says whether the name was there.
    fn drop(&mut self, kind: Kind, name: &Text) -> bool {
        self.problem(kind, name, Vec::new());
        self.out.get(kind, name).is_some() && self.out.of_mut(kind).remove(name).is_some()
    }

    fn problem(&mut self, kind: Kind, name: &Text, problems: Vec<(Origin, Text)>) {
        let key = (kind, Arc::clone(name));
        if problems.is_empty() {
            self.refused_changed |= self.problems.remove(&key).is_some();
        } else {
            self.refused_changed = true;
            self.problems.insert(key, problems);
        }
    }
}

impl Known for Resources {
    fn table(&self, id: &TableId) -> bool {
        self.get(Kind::Routes, &id.0).is_some()
    }

    fn secret(&self, id: &SecretId) -> bool {
        self.get(Kind::Secret, &id.0).is_some()
    }
}

/// Walks two states of a map in step. Calls `changed` with each key whose value is new or not
/// equal to before, and with each key that is gone.
fn changes<K: Ord, V: PartialEq>(
    last: &Arc<BTreeMap<K, Arc<V>>>,
    now: &Arc<BTreeMap<K, Arc<V>>>,
    mut changed: impl FnMut(&K, Option<&Arc<V>>),
) {
    if Arc::ptr_eq(last, now) {
        return;
    }
    let mut old = last.iter().peekable();
    let mut new = now.iter().peekable();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        match (before, after) {
            (_, Some((key, after))) => {
                let same =
                    before.is_some_and(|(_, before)| Arc::ptr_eq(before, after) || before == after);
                if !same {
                    changed(key, Some(after));
                }
            }
            (Some((key, _)), None) => changed(key, None),
            (None, None) => return,
        }
    }
}

#[cfg(test)]
mod tests;
