//! The encoder's resources in a real Envoy: nothing is refused, and requests are answered as the
//! model says. Without an Envoy binary each test says that it did not run.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may end them"
)]

mod access_log;
mod ads;
#[allow(dead_code, reason = "shared with the unit tests; each uses a part")]
#[path = "../../src/fixtures.rs"]
mod fixtures;
mod hardening;
mod hostile;
mod http2;
mod redirects;
mod routing;
mod tls;
mod world;
