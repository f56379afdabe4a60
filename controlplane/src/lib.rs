//! A tenant's control plane: `source -> translate -> envoy -> xds -> Envoy`, and back.
//!
//! - [`engine`]: from a Snapshot to what the Envoys hold, and to statuses;
//! - [`envoys`]: what each shard is to hold, and what became of it;
//! - [`keys`]: the instance's certificate authority and certificates;
//! - [`run`]: in a tenant's namespace;
//! - [`serve`]: without Kubernetes, from directories.

pub mod engine;
pub mod envoys;
pub mod keys;
pub mod run;
pub mod serve;
mod tell;
