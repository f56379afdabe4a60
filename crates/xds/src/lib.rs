//! Delta ADS of a tenant's control plane.
//!
//! ```text
//! Envoy <-- mutual TLS, HTTP/2 --> server --> machine (no I/O) <-- Resources
//!                                    |            |
//!                                    +- identity  +-> events --> Directory
//! ```
//!
//! - [`identity`]: who an Envoy is: its verified certificate says so, and nothing else does;
//! - [`machine`]: the protocol of one stream, request in and responses out;
//! - [`server`]: moves the bytes, authenticates, bounds.

pub mod identity;
pub mod machine;
pub mod server;

pub use identity::Identity;
pub use machine::{Event, Machine, ProtocolError};
