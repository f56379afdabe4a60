//! The supervisor of one Envoy: process 1 of the proxy container, or a plain process.
//!
//! ```text
//!            --xds --identity --tls-dir                    control plane
//!                      |                                         ^
//!   SIGTERM      +-----v------+   bootstrap.json, sds    +-------+------+
//!  ----------->  | Supervisor |------------------------->|    Envoy     |---> backends
//!                +-----+------+   admin (Unix socket)    +--------------+
//!   kubelet  ---> /ready     \--- judge(stats) ----------^      ^
//!   scraper  ---> /metrics -------- /stats/prometheus ---'   clients
//! ```
//!
//! - [`identity`]: who this Envoy is, and who its control plane must be.
//! - [`bootstrap`]: Envoy's bootstrap as typed values; no templates.
//! - [`state`]: the private directory that holds the bootstrap and the admin socket.
//! - [`admin`]: the client of Envoy's admin interface; only fixed paths can be asked for.
//! - [`reach`]: waiting for the control plane before Envoy is started.
//! - [`readiness`]: when an Envoy may be sent traffic; a pure function over Envoy's own counters.
//! - [`server`]: the two endpoints that are reachable over the network, `/ready` and `/metrics`.
//! - [`drain`]: leaving without failing a request.
//! - [`envoy`]: finding, starting and ending the Envoy process.
//! - [`supervisor`]: all of it together.
//!
//! Invariant: nothing that arrives over the network chooses an admin path, a file name or an
//! argument. [`admin::Admin`] takes `&'static str` paths only.

pub mod admin;
pub mod args;
pub mod bootstrap;
pub mod drain;
pub mod envoy;
pub mod identity;
pub mod reach;
pub mod readiness;
pub mod server;
pub mod state;
pub mod supervisor;

pub use supervisor::{Prepared, Settings, Stop, Supervisor};
