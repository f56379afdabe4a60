//! What a proxy should do, in our own words: no Kubernetes types, no Envoy types.
//!
//! ```text
//! Proxy ── listeners ── Listener { container port, trust } ─┬─ plain: table
//!   │                                                       └─ TLS chains: certificates, table
//!   ├───── tables ───── Table ── VirtualHost ── RouteEntry { matcher, action, origin }
//!   ├───── clusters ─── Cluster (named by what it reaches)
//!   ├───── endpoints ── Endpoints of a cluster
//!   └───── secrets ──── certificate and key
//! ```
//!
//! Every item is behind an [`Arc`](std::sync::Arc) and is the same `Arc` as in the last result if
//! nothing in it changed: whoever reads a `Proxy` may compare pointers to see what is new. Every
//! item knows its [`Origin`], so that a refusal by the proxy can name the tenant's object.

mod cluster;
mod host;
mod listener;
mod route;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use cluster::{Cluster, ClusterId, Endpoint, Endpoints, Health, Upstream};
pub use host::Host;
pub use listener::{Listener, ListenerKind, Material, Pem, Secret, SecretId, TlsChain, Trust};
pub use route::{
    Action, Backend, Fixed, HeaderMatch, Match, PathMatch, PathRank, PathRewrite, Precedence,
    QueryMatch, Redirect, RouteEntry, RouteId, Table, TableId, Target, ValueMatch, VirtualHost,
};

/// Shared text: cheap to clone, never changed.
pub type Text = Arc<str>;

/// The object and field that an item of the model comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The kind of the object, as it stands in its manifest, for example `HTTPRoute`.
    pub kind: Text,
    /// Its namespace.
    pub namespace: Text,
    /// Its name.
    pub name: Text,
    /// The field in it, for example `spec.rules[0].matches[1]`; empty for the whole object.
    pub field: Text,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        Ok(())
    }
}

/// Everything that one Envoy (one shard of an instance) should do.
///
/// The maps are shared with earlier results: clone them freely, change them by
/// [`Arc::make_mut`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxy {
    /// Listeners by name.
    pub listeners: Arc<BTreeMap<Text, Arc<Listener>>>,
    /// Route tables by name; one for each plain listener and each TLS chain.
    pub tables: Arc<BTreeMap<TableId, Arc<Table>>>,
    /// Clusters by name.
    pub clusters: Arc<BTreeMap<ClusterId, Arc<Cluster>>>,
    /// Endpoints by their cluster's name.
    pub endpoints: Arc<BTreeMap<ClusterId, Arc<Endpoints>>>,
    /// Certificates with their keys by name.
    pub secrets: Arc<BTreeMap<SecretId, Arc<Secret>>>,
}
