//! Builds Snapshots out of single objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_refs::{Key, Kind, Map, Object, Snapshot, Source};

use crate::door::{Lower, Lowered, Nameless, lower, with_kind};
use crate::observed::Observed;
use crate::scope::Extent;

/// Objects by kind, as they are now.
///
/// What a reader cannot see changes no pointer: an object that came again with the same content
/// keeps its `Arc`, and a kind in which nothing changed keeps its map.
#[derive(Debug, Default)]
pub struct Store {
    objects: Snapshot,
    observed: Arc<Observed>,
    /// The last Snapshot that was taken, as long as nothing changed since.
    taken: Option<Arc<Snapshot>>,
}

impl Store {
    /// An empty one.
    #[must_use]
    pub fn new() -> Store {
        Store::default()
    }

    /// Where the digests of statuses go.
    #[must_use]
    pub fn observed(&self) -> Arc<Observed> {
        Arc::clone(&self.observed)
    }

    /// Takes in an object from its JSON. Says its key.
    ///
    /// # Errors
    /// If it has no name.
    pub fn apply_json(&mut self, kind: Kind, json: &str) -> Result<Key, Nameless> {
        with_kind!(kind, T => lower::<T>(json).map(|lowered| self.apply(lowered)))
    }

    /// Takes in an object. Says its key.
    pub fn apply<T: Lower>(&mut self, lowered: Lowered<T>) -> Key {
        let key = lowered.object.meta.key.clone();
        if let Some(digest) = lowered.observed {
            self.observed.set(T::KIND, &key, digest);
        }
        let same = |have: &Arc<Object<T>>| **have == lowered.object;
        if !T::map(&self.objects).get(&key).is_some_and(same) {
            self.change::<T>()
                .insert(key.clone(), Arc::new(lowered.object));
        }
        key
    }

    /// Drops an object; nothing happens if there is none.
    pub fn remove(&mut self, kind: Kind, key: &Key) {
        with_kind!(kind, T => {
            if T::map(&self.objects).contains_key(key) {
                self.change::<T>().remove(key);
            }
            if T::HAS_STATUS {
                self.observed.remove(kind, key);
            }
        });
    }

    /// Drops those objects within an extent that are not to be kept.
    pub fn retain(&mut self, kind: Kind, extent: &Extent, keep: impl Fn(&Key) -> bool) {
        let gone: Vec<Key> = with_kind!(kind, T => within(T::map(&self.objects), extent)
            .filter(|key| !keep(key))
            .cloned()
            .collect());
        for key in gone {
            self.remove(kind, &key);
        }
    }

    /// Reads one kind.
    #[must_use]
    pub fn map<T: Lower>(&self) -> &Map<T> {
        T::map(&self.objects)
    }

    /// Everything, as it is now; the same `Arc` as before if nothing changed.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        let objects = &self.objects;
        Arc::clone(self.taken.get_or_insert_with(|| Arc::new(objects.clone())))
    }

    /// Whether something changed since [`Store::snapshot`].
    #[must_use]
    pub fn changed(&self) -> bool {
        self.taken.is_none()
    }

    fn change<T: Lower>(&mut self) -> &mut BTreeMap<Key, Arc<Object<T>>> {
        self.taken = None;
        Arc::make_mut(T::map_mut(&mut self.objects))
    }
}

fn within<'a, T>(map: &'a Map<T>, extent: &'a Extent) -> impl Iterator<Item = &'a Key> {
    let from = Key {
        source: Source::LOCAL,
        namespace: extent.namespace().unwrap_or_default().into(),
        name: "".into(),
    };
    map.range(from..)
        .map(|(key, _)| key)
        .take_while(|key| {
            extent
                .namespace()
                .is_none_or(|namespace| *key.namespace == *namespace)
        })
        .filter(|key| extent.holds(key))
}

#[cfg(test)]
mod tests {
    use postern_refs::objects::{HttpRoute, Service};

    use super::*;

    fn route(name: &str, hostname: &str, status: &str) -> String {
        format!(
            r#"{{"metadata":{{"namespace":"n","name":"{name}"}},"spec":{{"hostnames":["{hostname}"]}},"status":{status}}}"#
        )
    }

    fn apply(store: &mut Store, json: &str) {
        store.apply_json(Kind::HttpRoute, json).expect("named");
    }

    #[test]
    fn what_did_not_change_stays_the_same_pointer() {
        let mut store = Store::new();
        apply(&mut store, &route("a", "a.example", "{}"));
        apply(&mut store, &route("b", "b.example", "{}"));
        let first = store.snapshot();
        assert!(Arc::ptr_eq(&first, &store.snapshot()));

        // A status only: nothing that a reader of the Snapshot sees.
        let before = store.observed().get(Kind::HttpRoute, &Key::new("n", "a"));
        let entry = r#"{"parents":[{"controllerName":"postern.dev/gateway-controller","parentRef":{"name":"g"}}]}"#;
        apply(&mut store, &route("a", "a.example", entry));
        assert!(!store.changed());
        assert!(Arc::ptr_eq(&first, &store.snapshot()));
        assert_ne!(
            before,
            store.observed().get(Kind::HttpRoute, &Key::new("n", "a"))
        );

        // One object changes: its neighbours and the other kinds stay.
        apply(&mut store, &route("a", "other.example", entry));
        assert!(store.changed());
        let second = store.snapshot();
        let at = |snapshot: &Snapshot, name: &str| {
            Arc::clone(&snapshot.http_routes[&Key::new("n", name)])
        };
        assert!(!Arc::ptr_eq(&at(&first, "a"), &at(&second, "a")));
        assert!(Arc::ptr_eq(&at(&first, "b"), &at(&second, "b")));
        assert!(!Arc::ptr_eq(&first.http_routes, &second.http_routes));
        assert!(Arc::ptr_eq(&first.services, &second.services));
        assert_eq!(
            &*at(&first, "a").valid().expect("valid").hostnames[0],
            "a.example"
        );
    }

    #[test]
    fn removing_what_is_not_there_changes_nothing() {
        let mut store = Store::new();
        apply(&mut store, &route("a", "a.example", "{}"));
        let first = store.snapshot();
        store.remove(Kind::HttpRoute, &Key::new("n", "b"));
        store.remove(Kind::Service, &Key::new("n", "a"));
        assert!(Arc::ptr_eq(&first, &store.snapshot()));
        store.remove(Kind::HttpRoute, &Key::new("n", "a"));
        assert!(store.snapshot().http_routes.is_empty());
        assert_eq!(
            store.observed().get(Kind::HttpRoute, &Key::new("n", "a")),
            None
        );
    }

    #[test]
    fn only_what_stands_within_an_extent_is_dropped() {
        let mut store = Store::new();
        for (namespace, name) in [("a", "x"), ("b", "x"), ("b", "y"), ("ba", "x"), ("c", "x")] {
            let json = format!(
                r#"{{"metadata":{{"namespace":"{namespace}","name":"{name}"}},"spec":{{}}}}"#
            );
            store.apply_json(Kind::Service, &json).expect("named");
        }
        let keys = |store: &Store| {
            store
                .map::<Service>()
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        store.retain(Kind::Service, &Extent::Namespace("b".into()), |key| {
            &*key.name == "y"
        });
        assert_eq!(keys(&store), ["a/x", "b/y", "ba/x", "c/x"]);
        store.retain(
            Kind::Service,
            &Extent::Object("ba".into(), "y".into()),
            |_| false,
        );
        assert_eq!(keys(&store), ["a/x", "b/y", "ba/x", "c/x"]);
        store.retain(
            Kind::Service,
            &Extent::Object("ba".into(), "x".into()),
            |_| false,
        );
        assert_eq!(keys(&store), ["a/x", "b/y", "c/x"]);
        store.retain(Kind::Service, &Extent::Cluster, |key| {
            &*key.namespace == "c"
        });
        assert_eq!(keys(&store), ["c/x"]);
        assert!(store.map::<HttpRoute>().is_empty());
    }
}
