//! From the model to Envoy's protobufs: typed values only, no templates.
//!
//! ```text
//! Proxy ──> Encoder ──> Resources
//!             ├─ cluster.rs    a cluster, its endpoints
//!             ├─ secret.rs     a certificate with its key
//!             ├─ listener.rs   port, TLS chains
//!             │    └─ http.rs  the HTTP connection manager: limits, paths
//!             │         ├─ trust.rs    who the client is; which request headers are believed
//!             │         └─ filters.rs  which HTTP filters, in which order
//!             └─ tables.rs     joins encoded entries to virtual hosts and tables
//!                  └─ route.rs     one entry: path, method, header and query matches; backends
//!                       └─ redirect.rs
//! ```
//!
//! [`check`](fn@check) says what Envoy would refuse or misread before it is sent: Envoy takes a
//! route table whole or not at all, so one bad entry must never be in it.
//!
//! **Invariant.** What an [`Encoder`] returns is closed: every listener's tables and certificates
//! are in it, every cluster has its endpoints (if only none). An Envoy that got all of it waits
//! for nothing.

mod check;
mod cluster;
mod encode;
mod filters;
#[cfg(test)]
mod fixtures;
mod http;
mod join;
mod listener;
mod log;
mod pb;
mod redirect;
mod resources;
mod route;
mod secret;
mod tables;
mod trust;
mod version;

pub use check::check;
pub use encode::{Encoder, Options, Work};
pub use resources::{Kind, Resource, Resources};
pub use route::BROKEN_CLUSTER;
