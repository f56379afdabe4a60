//! What end-to-end tests, `make try` and `make run` share.
//!
//! - [`tools`]: Envoy, and our own programs, built;
//! - [`images`]: our container images;
//! - [`process`]: processes that end with whoever started them;
//! - [`local`]: two teams without Kubernetes.

pub mod images;
pub mod local;
pub mod process;
pub mod tools;
