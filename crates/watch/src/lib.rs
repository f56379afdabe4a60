//! Sources of a Snapshot: Kubernetes, a directory; and the way back, the status writer.
//!
//! ```text
//!   API server ── kube ──┐                           ┌── Snapshot ──> translate
//!                        ├── door ── store ── debounce
//!   directory  ── dir ───┘     └── Observed ─────────┐
//!                                                    ├── status ──> API server
//!                               desired statuses ────┘
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | `door` | lowers wire forms to the compact types of `postern-refs` |
//! | [`store`] | builds Snapshots in which what did not change stays the same pointer |
//! | [`debounce`] | hold-off |
//! | [`kube`] | watches an API server |
//! | [`dir`] | reads a directory |
//! | [`status`] | writes statuses |
//! | [`lease`] | who of several may write |
//!
//! Architecture invariant: this is the only crate that touches wire forms of what it watches, and
//! nothing of them leaves it.

mod door;
mod kinds;
#[cfg(test)]
mod mock;
mod observed;
mod scope;
mod text;

pub mod debounce;
pub mod dir;
pub mod kube;
pub mod lease;
pub mod status;
pub mod store;

pub use door::{Lower, Lowered, Nameless, digest, lower};
pub use kinds::{is_namespaced, versions};
pub use observed::{Digests, Observed, Seen};
pub use scope::{Extent, Scope, Watch, WatchState};

/// YAML 1.2: `n`, `no` and `on` are strings.
pub(crate) fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! { strict_booleans: true }
}
