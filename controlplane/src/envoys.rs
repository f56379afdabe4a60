//! The Envoys of an instance: what each shard is to hold, and what became of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_envoy::{Kind, Resources};
use postern_model::{TableId, Text};
use postern_translate::{Ack, ShardAcks};
use postern_xds::server::{Directory, StreamId};
use postern_xds::{Event, Identity};
use tokio::sync::watch;

/// The shards of one instance and the streams of their Envoys.
#[derive(Debug)]
pub struct Envoys {
    trust_domain: String,
    namespace: String,
    instance: String,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    shards: BTreeMap<Text, watch::Sender<Arc<Resources>>>,
    streams: BTreeMap<StreamId, Stream>,
}

/// What one Envoy said. Listeners and route tables only: nothing else shows in a status.
#[derive(Debug)]
struct Stream {
    shard: Text,
    address: IpAddr,
    held: BTreeMap<(Kind, Arc<str>), u64>,
    refused: BTreeMap<(Kind, Arc<str>), (u64, String)>,
}

impl Envoys {
    /// The Envoys of this instance; it knows no shard yet.
    #[must_use]
    pub fn new(trust_domain: &str, namespace: &str, instance: &str) -> Envoys {
        Envoys {
            trust_domain: trust_domain.into(),
            namespace: namespace.into(),
            instance: instance.into(),
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Tells the Envoys of a shard what to hold from now on.
    pub fn publish(&self, shard: &Text, resources: Resources) {
        let mut state = self.state();
        match state.shards.get(shard) {
            Some(sender) => {
                sender.send_if_modified(|held| {
                    let same = Kind::ALL.iter().all(|kind| resources.same(held, *kind));
                    if !same {
                        *held = Arc::new(resources);
                    }
                    !same
                });
            }
            None => {
                let sender = watch::Sender::new(Arc::new(resources));
                state.shards.insert(shard.clone(), sender);
            }
        }
    }

    /// Forgets the shards that are not among these; the streams of their Envoys end.
    pub fn retain(&self, keep: impl Fn(&Text) -> bool) {
        self.state().shards.retain(|shard, _| keep(shard));
    }

    /// Changes whenever an acknowledgement, a refusal or the end of a stream came.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What the Envoys of a shard hold of what they are to hold, of those at addresses that count.
    /// What one of them refused is told of all: none may be ready because of it.
    #[must_use]
    pub fn acks(&self, shard: &Text, counts: impl Fn(IpAddr) -> bool) -> ShardAcks {
        let state = self.state();
        let Some(sender) = state.shards.get(shard) else {
            return ShardAcks::default();
        };
        let resources = sender.borrow();
        let of_shard = || state.streams.values().filter(|s| s.shard == *shard);
        let all: Vec<&Stream> = of_shard().collect();
        let counting: Vec<&Stream> = of_shard().filter(|s| counts(s.address)).collect();
        let of = |kind: Kind| {
            let (all, counting) = (&all, &counting);
            resources
                .of(kind)
                .iter()
                .filter_map(move |(name, resource)| {
                    Some((
                        name.clone(),
                        ack(counting, all, kind, name, resource.version)?,
                    ))
                })
        };
        ShardAcks {
            listeners: of(Kind::Listener).collect(),
            tables: of(Kind::Routes)
                .map(|(name, ack)| (TableId(name), ack))
                .collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing below leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ours(&self, identity: &Identity) -> bool {
        identity.trust_domain() == self.trust_domain
            && identity.namespace() == self.namespace
            && identity.instance() == self.instance
    }
}

/// One Envoy that holds it is enough; a new one that joins does not take that away. A table counts
/// at any version: a route that changes does not make a Gateway unready for a moment.
fn ack(
    counting: &[&Stream],
    all: &[&Stream],
    kind: Kind,
    name: &Arc<str>,
    version: u64,
) -> Option<Ack> {
    let key = (kind, name.clone());
    let held = |any: bool| {
        counting.iter().any(|stream| {
            stream
                .held
                .get(&key)
                .is_some_and(|held| any || *held == version)
        })
    };
    if held(false) {
        return Some(Ack::Acknowledged);
    }
    let refused = all
        .iter()
        .find_map(|stream| match stream.refused.get(&key) {
            Some((refused, said)) if *refused == version => {
                Some(Ack::Refused(said.as_str().into()))
            }
            _ => None,
        });
    refused.or_else(|| (held(kind == Kind::Routes)).then_some(Ack::Acknowledged))
}

impl Directory for Envoys {
    fn resources(&self, identity: &Identity) -> Option<watch::Receiver<Arc<Resources>>> {
        if !self.is_ours(identity) {
            return None;
        }
        self.state()
            .shards
            .get(identity.shard())
            .map(watch::Sender::subscribe)
    }

    fn opened(&self, identity: &Identity, stream: StreamId, address: IpAddr) {
        let opened = Stream {
            shard: identity.shard().into(),
            address,
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        self.state().streams.insert(stream, opened);
    }

    fn event(&self, identity: &Identity, stream: StreamId, event: Event) {
        let (kind, names, removed, detail) = match event {
            Event::Acknowledged {
                kind,
                names,
                removed,
            } => (kind, names, removed, None),
            Event::Refused {
                kind,
                names,
                removed,
                detail,
            } => {
                let what: Vec<&str> = names.iter().map(|(name, _)| &**name).collect();
                tracing::error!(shard = identity.shard(), ?kind, names = ?what, %detail, "Envoy refused configuration");
                (kind, names, removed, Some(detail))
            }
        };
        if !matches!(kind, Kind::Listener | Kind::Routes) {
            return;
        }
        let mut state = self.state();
        let Some(known) = state.streams.get_mut(&stream) else {
            return;
        };
        for (name, version) in names {
            match &detail {
                None => {
                    known.refused.remove(&(kind, name.clone()));
                    known.held.insert((kind, name), version);
                }
                Some(detail) => {
                    known
                        .refused
                        .insert((kind, name), (version, detail.clone()));
                }
            }
        }
        if detail.is_none() {
            for name in removed {
                known.held.remove(&(kind, name.clone()));
                known.refused.remove(&(kind, name));
            }
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    fn closed(&self, _identity: &Identity, stream: StreamId) {
        self.state().streams.remove(&stream);
        self.changed.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_envoy::Resource;

    fn identity(namespace: &str, shard: &str) -> Identity {
        Identity::new("postern.local", namespace, "default", shard).unwrap()
    }

    fn table(version: u64) -> Resources {
        let mut resources = Resources::default();
        let resource = Resource {
            version,
            body: bytes::Bytes::new(),
            needs: Arc::new([]),
        };
        resources.of_mut(Kind::Routes).insert("t".into(), resource);
        resources
    }

    fn acknowledged(version: u64) -> Event {
        Event::Acknowledged {
            kind: Kind::Routes,
            names: vec![("t".into(), version)],
            removed: vec![],
        }
    }

    #[test]
    fn an_identity_of_another_instance_or_shard_gets_nothing() {
        let envoys = Envoys::new("postern.local", "a", "default");
        assert!(
            envoys.resources(&identity("a", "default")).is_none(),
            "nothing is complete yet"
        );
        envoys.publish(&"default".into(), table(1));
        assert!(envoys.resources(&identity("a", "default")).is_some());
        assert!(envoys.resources(&identity("b", "default")).is_none());
        assert!(envoys.resources(&identity("a", "other")).is_none());
        let elsewhere = Identity::new("other.local", "a", "default", "default").unwrap();
        assert!(envoys.resources(&elsewhere).is_none());
    }

    #[test]
    fn one_envoy_that_holds_the_current_version_is_enough() {
        let envoys = Envoys::new("postern.local", "a", "default");
        let shard: Text = "default".into();
        let who = identity("a", "default");
        let [here, there, absent] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let at = |envoys: &Envoys, ready: &[IpAddr]| {
            let acks = envoys.acks(&shard, |address| ready.contains(&address));
            acks.tables.get(&TableId("t".into())).cloned()
        };
        let state = |envoys: &Envoys| at(envoys, &[here, there]);
        envoys.publish(&shard, table(1));
        assert_eq!(state(&envoys), None);
        envoys.opened(&who, StreamId(1), here);
        envoys.opened(&who, StreamId(2), there);
        envoys.event(&who, StreamId(1), acknowledged(1));
        assert_eq!(state(&envoys), Some(Ack::Acknowledged));
        assert_eq!(at(&envoys, &[absent]), None, "not ready yet");
        envoys.event(&who, StreamId(2), acknowledged(9));
        assert_eq!(
            state(&envoys),
            Some(Ack::Acknowledged),
            "a new Envoy takes nothing away"
        );
        envoys.publish(&shard, table(2));
        assert_eq!(
            state(&envoys),
            Some(Ack::Acknowledged),
            "it serves, if not yet the newest"
        );
        let refused = Event::Refused {
            kind: Kind::Routes,
            names: vec![("t".into(), 2)],
            removed: vec![],
            detail: "no".into(),
        };
        envoys.event(&who, StreamId(1), refused);
        assert_eq!(state(&envoys), Some(Ack::Refused("no".into())));
        assert_eq!(
            at(&envoys, &[absent]),
            Some(Ack::Refused("no".into())),
            "a refusal is told, whoever it came from"
        );
        envoys.event(&who, StreamId(2), acknowledged(2));
        assert_eq!(state(&envoys), Some(Ack::Acknowledged));
        assert_eq!(at(&envoys, &[there]), Some(Ack::Acknowledged));
        envoys.closed(&who, StreamId(2));
        assert_eq!(
            state(&envoys),
            Some(Ack::Refused("no".into())),
            "who left counts no more"
        );
    }
}
