//! Pages about a running Postern: what an API server answered becomes what a person wants to know.
//!
//! ```text
//! Facts ── read ── World ─┬─ find ────── problems, each with its cause and next steps (advice)
//!                         ├─ serving ─── the translation that the control plane makes
//!                         └─ status, routes, explain ── pages ── text, or JSON and YAML
//! ```
//!
//! Pure: no clock, no network. Whoever asks may be a tenant, so nothing here needs a Secret, a
//! Node, or what stands in another namespace; what was forbidden is told as unknown.

mod advice;
mod explain;
mod facts;
mod find;
mod problem;
mod read;
mod routes;
pub mod safe;
mod serving;
mod status;
pub mod text;

pub use explain::{EnvoyResource, Explanation, Link, Target, explain};
pub use facts::{Answer, Facts, Resource};
pub use find::FOUND;
pub use problem::{Problem, Step};
pub use routes::{Asked, Entry, RoutesPage, routes};
pub use status::{
    GatewayRow, InstanceRow, ListenerRow, Pods, Quota, State, StatusPage, Unknown, status,
};
