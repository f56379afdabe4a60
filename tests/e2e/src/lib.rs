//! What end-to-end tests, `make try` and `make run` share.
//!
//! - [`tools`]: Envoy, and our own programs, built;
//! - [`docs`]: the YAML of the documentation's pages;
//! - [`demo`]: two teams on a real cluster;
//! - [`current`]: the same on the cluster of the current kubeconfig context;
//! - [`platform`]: what a platform's admins do;
//! - [`olm`]: what an admin does on a cluster with OLM;
//! - [`http`]: one plain HTTP request;
//! - [`images`]: our container images;
//! - [`push`]: images to a registry;
//! - [`process`]: processes that end with whoever started them;
//! - [`local`]: two teams without Kubernetes.

pub mod current;
pub mod demo;
pub mod docs;
pub mod http;
pub mod images;
pub mod local;
pub mod olm;
pub mod platform;
pub mod process;
pub mod push;
pub mod tools;
