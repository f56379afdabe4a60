//! The compact types that objects are lowered to.
//!
//! Architecture invariant: only `postern-watch` makes them from wire forms; nothing here knows
//! JSON. Enumerations keep values that we do not know (`Other`), so that the translator can
//! refuse them by name.

mod core;
mod gateway;
mod policy;
mod route;

use std::fmt;

pub use self::core::{
    AddressPort, EndpointSlice, Namespace, Service, ServiceKind, ServicePort, SliceEndpoint,
    TargetPort, TlsSecret,
};
pub use self::gateway::{
    AllowedRoutes, Gateway, GatewayClass, Listener, ListenerTls, NamespacesFrom, Protocol,
    RouteKind, Selector, SelectorOperator, SelectorRequirement, TlsMode,
};
pub use self::policy::{GrantFrom, GrantTo, ReferenceGrant};
pub use self::route::{
    BackendRef, HttpFilter, HttpMatch, HttpRoute, HttpRule, MatchKind, ParentRef, PathRewrite,
    PathType, Redirect, ValueMatch,
};
use crate::{FieldPath, Key, Name};

/// What every object has. `labels` are kept by the kinds that need them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its key.
    pub key: Key,
    /// Its UID; empty where the source knows none.
    pub uid: Name,
    /// Its generation; 0 where its kind counts none.
    pub generation: i64,
    /// When it was created, microseconds since 1970; 0 where unknown.
    pub created: i64,
}

/// A reference to an object by name, as a spec writes it. Defaults of the API are applied at the
/// door, except for the namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The group; empty for core.
    pub group: Name,
    /// The kind.
    pub kind: Name,
    /// The namespace; `None` is the referrer's own.
    pub namespace: Option<Name>,
    /// The name.
    pub name: Name,
}

/// What an object says, or why it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<T> {
    /// It was read.
    Valid(T),
    /// It was not: it does not decode. It stays in the Snapshot, so that it gets a condition.
    Invalid {
        /// The field that does not decode; empty for the whole object.
        field: FieldPath,
        /// What is wrong with it, for people.
        reason: Name,
    },
}

/// An object of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object<T> {
    /// Name, identity and age.
    pub meta: Meta,
    /// What it says.
    pub body: Body<T>,
    /// Fields that it sets and that Postern does not read: never ignored in silence.
    pub unsupported: Vec<FieldPath>,
}

impl<T> Object<T> {
    /// What it says, where that could be read.
    pub fn valid(&self) -> Option<&T> {
        match &self.body {
            Body::Valid(value) => Some(value),
            Body::Invalid { .. } => None,
        }
    }
}

/// Secret bytes that never show in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted(pub Name);

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redacted")
    }
}
