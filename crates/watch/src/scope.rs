//! What is watched.

use std::collections::BTreeSet;

use postern_refs::{Key, Kind, Name};

/// Which objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// All of the cluster.
    Cluster,
    /// Those of a namespace.
    Namespace(Name),
    /// One, by namespace (empty for cluster-scoped kinds) and name. RBAC by name allows no more.
    Object(Name, Name),
}

impl Extent {
    /// The namespace, if it is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Extent::Cluster => None,
            Extent::Namespace(namespace) | Extent::Object(namespace, _) => Some(namespace),
        }
    }

    /// Whether an object stands within.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        match self {
            Extent::Cluster => true,
            Extent::Namespace(namespace) => key.namespace == *namespace,
            Extent::Object(namespace, name) => key.namespace == *namespace && key.name == *name,
        }
    }
}

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watch {
    /// The kind.
    pub kind: Kind,
    /// Which objects of it.
    pub extent: Extent,
}

impl Watch {
    /// All objects of a kind.
    #[must_use]
    pub fn cluster(kind: Kind) -> Watch {
        Watch {
            kind,
            extent: Extent::Cluster,
        }
    }

    /// The objects of a kind in a namespace.
    #[must_use]
    pub fn namespace(kind: Kind, namespace: impl Into<Name>) -> Watch {
        Watch {
            kind,
            extent: Extent::Namespace(namespace.into()),
        }
    }

    /// One object.
    #[must_use]
    pub fn object(kind: Kind, namespace: impl Into<Name>, name: impl Into<Name>) -> Watch {
        Watch {
            kind,
            extent: Extent::Object(namespace.into(), name.into()),
        }
    }

    /// Whether it leaves this namespace, so that another owner may revoke it.
    #[must_use]
    pub fn is_foreign(&self, own: &str) -> bool {
        match &self.extent {
            Extent::Cluster => false,
            Extent::Namespace(namespace) | Extent::Object(namespace, _) => {
                !namespace.is_empty() && **namespace != *own
            }
        }
    }
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.name();
        match &self.extent {
            Extent::Cluster => write!(f, "{kind}, all"),
            Extent::Namespace(namespace) => write!(f, "{kind} in {namespace}"),
            Extent::Object(namespace, name) if namespace.is_empty() => write!(f, "{kind} {name}"),
            Extent::Object(namespace, name) => write!(f, "{kind} {namespace}/{name}"),
        }
    }
}

/// What a source watches.
pub type Scope = BTreeSet<Watch>;

/// How far a watch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// The first list is not in yet; why, if something went wrong.
    Loading(Option<Name>),
    /// Its objects are in the Snapshot.
    Loaded,
    /// The API server does not allow it. Its objects are not in the Snapshot.
    Refused,
    /// The API server does not serve its kind.
    Absent,
}

impl WatchState {
    /// Whether a Snapshot may be published as far as this watch goes.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !matches!(self, WatchState::Loading(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_foreign() {
        let foreign = |watch: Watch| watch.is_foreign("own");
        assert!(!foreign(Watch::cluster(Kind::Gateway)));
        assert!(!foreign(Watch::namespace(Kind::Gateway, "own")));
        assert!(!foreign(Watch::object(Kind::Secret, "own", "a")));
        assert!(!foreign(Watch::object(Kind::GatewayClass, "", "postern")));
        assert!(foreign(Watch::namespace(Kind::HttpRoute, "other")));
        assert!(foreign(Watch::object(Kind::Secret, "other", "a")));
    }
}
