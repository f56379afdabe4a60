//! Clusters, named by what they reach, and their endpoints.

use std::net::IpAddr;

use crate::{Origin, Text};

/// A cluster's name: `namespace/Service/port`, never a rule's index, so that reordering routes
/// touches no cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub Text);

/// How requests are sent to the endpoints of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// HTTP/1.1 without TLS.
    Http1,
    /// HTTP/2 with prior knowledge, without TLS (`kubernetes.io/h2c`).
    H2c,
}

/// A group of endpoints that serve the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub id: ClusterId,
    /// The protocol towards its endpoints.
    pub upstream: Upstream,
    /// The Service it stands for.
    pub origin: Origin,
}

/// Whether an endpoint may get requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It gets requests.
    Ready,
    /// It ends, and gets requests only where nothing is ready (`serving` and `terminating`).
    Draining,
}

/// One address that serves a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it may get requests.
    pub health: Health,
}

/// The endpoints of one cluster, sorted, without doubles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The cluster that they serve.
    pub cluster: ClusterId,
    /// The endpoints; none is a valid state (requests get 503).
    pub endpoints: Vec<Endpoint>,
}
