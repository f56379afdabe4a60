//! The cluster's operator: `watch -> consent -> stamp -> apply -> status`.
//!
//! ```text
//!  source (postern-watch) ── Snapshot ──┐
//!  observe ── what was stamped, live ───┼─> queue ─> reconcile ─> apply, entitlement, status
//!  surroundings ── API servers, nodes ──┘  (a tenant a place)
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | [`run`] | connects, and wires all of it |
//! | [`driver`] | what changed, whose it is, who is next |
//! | [`queue`] | which tenant is next; pure |
//! | [`reconcile`] | one run for one tenant |
//! | [`apply`], [`compare`] | one object: create, compare, replace; never adopt |
//! | [`entitlement`] | the contract |
//! | [`status`], [`events`] | the instance's status, and what of it is worth an event |
//! | [`bare`] | the instance of Gateways that have none |
//! | [`orphans`] | statuses of Gateways that have no control plane |
//! | [`class`] | the GatewayClass |
//! | [`live`], [`observe`] | what is in the cluster of what was stamped |
//!
//! Architecture invariant: what a tenant or a control plane could have written (a status, a label,
//! an annotation) decides nothing here, but whose Gateways an instance that was made for such lives as
//! long as ([`bare`]). There is no request for a Secret in this program.

pub mod apply;
pub mod bare;
pub mod class;
pub mod compare;
pub mod driver;
pub mod entitlement;
pub mod events;
pub mod kinds;
pub mod live;
pub mod observe;
pub mod orphans;
pub use postern_probes as probes;
pub mod problem;
pub mod queue;
pub mod reconcile;
pub mod run;
pub mod shared;
pub mod status;
pub mod surroundings;
pub mod trust;
