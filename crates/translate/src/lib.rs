//! Snapshot and Entitlement become the model and reports: pure, total, synchronous, keyed.
//!
//! ```text
//! Snapshot ──┐   frame     Gateways: hosts, ports, certificates     (frame.rs, secrets.rs)
//!            ├─► route     rules: matches, filters, backends        (route.rs, matches.rs,
//! Entitlement┘      │                                                filters.rs, backends.rs)
//!                   ├────► tables    virtual hosts, in total order  (tables.rs)
//!                   ├────► clusters  Services, EndpointSlices       (endpoints.rs)
//!                   └────► reports ─ finish (with acknowledgements) ─► statuses
//! ```
//!
//! There is no clock, no network, and no `Result` for a tenant's bad input here: it becomes a value
//! ("answer 500, because …") and a [`Problem`] with a field path. A header match is translated in
//! `matches.rs`.
//!
//! Architecture invariant: nothing here looks at ReferenceGrants, Namespaces, labels of namespaces
//! or a Service's status: what they decide stands in the Entitlement.

mod backends;
mod endpoints;
mod filters;
mod finish;
mod frame;
mod index;
mod matches;
mod memo;
mod outcome;
mod quota;
mod report;
mod route;
mod secrets;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use postern_api::EntitlementStatus;
use postern_model::{Proxy, Text};
use postern_refs::status::Statuses;
use postern_refs::{Key, Snapshot};

pub use finish::{Ack, Acks, ShardAcks, finish};
pub use frame::{served_name, table_name};
pub use memo::Memo;
pub use outcome::{Cause, Effect, Outcome, Problem, Subject};
pub use report::{GatewayReport, ListenerReport};

/// What does not come from a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether endpoints on 127.0.0.0/8 and `::1` get requests. Only where Envoy is a plain process
    /// of the person who writes the routes.
    pub allow_loopback: bool,
}

/// How much the last pass had to do, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Gateways that were looked at.
    pub frames: usize,
    /// Routes that were translated.
    pub routes: usize,
    /// Route entries that were made.
    pub entries: usize,
    /// Virtual hosts that were joined anew.
    pub hosts: usize,
    /// Clusters that were looked at.
    pub clusters: usize,
}

/// What a Snapshot and an Entitlement come to.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// What the Envoys of each shard should do.
    pub proxies: BTreeMap<Text, Proxy>,
    /// What is said about Gateways, before acknowledgements.
    pub gateways: Arc<BTreeMap<Key, Arc<GatewayReport>>>,
    /// The statuses of routes, which wait for nothing.
    pub routes: Arc<Statuses>,
    /// The ready endpoints of each Gateway's Service: where its Envoys are.
    pub ready: BTreeMap<Key, BTreeSet<IpAddr>>,
}

/// Translates. With the memo of the last pass, only what changed is recomputed; the result is the
/// same without.
#[must_use]
pub fn translate(
    snapshot: &Snapshot,
    entitlement: &EntitlementStatus,
    memo: &mut Memo,
) -> Translation {
    memo.pass(snapshot, entitlement)
}
