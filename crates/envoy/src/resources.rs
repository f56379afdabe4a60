//! What one Envoy is to hold: encoded xDS resources with versions, needs and origins.
//!
//! Whether something changed comes from comparing our own model. A version is the hash of what an
//! item was encoded to, taken once, when it is encoded (for joined resources: of the versions of
//! the parts), so that equal content has an equal version after a restart too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// The resource types that Postern serves, in the order in which an Envoy must learn them
/// (make before break: what is referred to comes before what refers to it).
///
/// Source: "xDS protocol", section "Eventual consistency considerations".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS), named as its cluster.
    Endpoints,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Routes,
}

impl Kind {
    /// All kinds, in the order in which they are sent.
    pub const ALL: [Kind; 5] = [
        Kind::Cluster,
        Kind::Endpoints,
        Kind::Secret,
        Kind::Listener,
        Kind::Routes,
    ];

    /// The type URL as it stands in `DeltaDiscoveryRequest.type_url` and in `Any.type_url`.
    #[must_use]
    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Kind::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The kind of a type URL; `None` for a type that Postern does not serve.
    #[must_use]
    pub fn of_type_url(url: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

/// One encoded resource. Its `Debug` form shows no content: a body may hold a private key.
#[derive(Clone)]
pub struct Resource {
    /// Version of its content: equal versions of one name mean equal content.
    pub version: u64,
    /// The encoded message (the `value` of an `Any` whose type is [`Kind::type_url`]).
    pub body: Bytes,
    /// Names of the clusters that must be acknowledged, with their endpoints, before this is sent,
    /// sorted. Filled for [`Kind::Routes`]; empty elsewhere.
    pub needs: Arc<[Arc<str>]>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("version", &format_args!("{:016x}", self.version))
            .field("bytes", &self.body.len())
            .field("needs", &self.needs)
            .finish()
    }
}

/// Everything that one Envoy (one shard of one instance) is to hold. Cheap to clone: the maps are
/// shared with the clones until one of them is changed.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    maps: [Arc<BTreeMap<Arc<str>, Resource>>; 5],
}

impl Resources {
    /// The resources of one kind by name.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &BTreeMap<Arc<str>, Resource> {
        &self.maps[kind as usize]
    }

    /// The resources of one kind by name, to change; clones stay as they are.
    pub fn of_mut(&mut self, kind: Kind) -> &mut BTreeMap<Arc<str>, Resource> {
        Arc::make_mut(&mut self.maps[kind as usize])
    }

    /// Whether the resources of a kind are known to be the same as in `other` without looking at
    /// them: both share one map. `false` says nothing.
    #[must_use]
    pub fn same(&self, other: &Resources, kind: Kind) -> bool {
        Arc::ptr_eq(&self.maps[kind as usize], &other.maps[kind as usize])
    }

    /// One resource.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Resource> {
        self.of(kind).get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(body: &'static [u8]) -> Resource {
        Resource {
            version: 7,
            body: Bytes::from_static(body),
            needs: Arc::from([]),
        }
    }

    #[test]
    fn a_clone_is_shared_until_it_is_changed() {
        let mut first = Resources::default();
        first
            .of_mut(Kind::Secret)
            .insert("a".into(), resource(b"x"));
        let mut second = first.clone();
        assert!(second.same(&first, Kind::Secret));
        second.of_mut(Kind::Secret).remove("a");
        assert!(!second.same(&first, Kind::Secret));
        assert!(second.same(&first, Kind::Cluster));
        assert!(first.get(Kind::Secret, "a").is_some());
    }

    #[test]
    fn debug_output_has_no_bodies() {
        let mut resources = Resources::default();
        resources
            .of_mut(Kind::Secret)
            .insert("a".into(), resource(b"PRIVATE KEY"));
        let shown = format!("{resources:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
        assert!(shown.contains("\"a\""), "{shown}");
    }

    #[test]
    fn type_urls_lead_back_to_their_kinds() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_type_url(kind.type_url()), Some(kind));
        }
        assert_eq!(
            Kind::of_type_url("type.googleapis.com/google.protobuf.Any"),
            None
        );
    }
}
