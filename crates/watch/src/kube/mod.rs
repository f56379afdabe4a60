//! An API server as the source of a Snapshot.
//!
//! Each watch of the [`Scope`](crate::Scope) is a task of its own on a shared HTTP/2 connection. It
//! lowers each object as it arrives into the one [`Store`](crate::store::Store) and keeps nothing
//! else; a supervisor publishes a Snapshot after a hold-off, the first one only once every watch has
//! its list, or is refused, or its kind is not served.

mod access;
mod client;
mod discover;
mod entitlement;
mod raw;
mod shared;
mod source;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use self::access::{Backoff, jittered};
pub use self::client::{Clients, WATCHES_A_CONNECTION};
pub use self::discover::{Discovered, discover};
pub use self::entitlement::EntitlementSource;
pub use self::source::{Coverage, KubeSource, Options};
