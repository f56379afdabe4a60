//! ReferenceGrant.

use crate::Name;

/// Who may refer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantFrom {
    /// The referrer's group.
    pub group: Name,
    /// The referrer's kind.
    pub kind: Name,
    /// The referrer's namespace.
    pub namespace: Name,
}

/// What may be referred to, in the grant's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantTo {
    /// The target's group; empty for core.
    pub group: Name,
    /// The target's kind.
    pub kind: Name,
    /// The target's name; `None` is any.
    pub name: Option<Name>,
}

/// `gateway.networking.k8s.io ReferenceGrant`. Read by the operator only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Any of these may refer …
    pub from: Vec<GrantFrom>,
    /// … to any of these.
    pub to: Vec<GrantTo>,
}
