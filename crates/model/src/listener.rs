//! Listeners, the trust on them, and certificates.

use std::fmt;

use crate::{Host, Origin, TableId, Text};

/// What a listener believes about who the client is. A property of the port, never of a client
/// address: host-network sources always get in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Nothing that the client says: the connection's peer is the client.
    #[default]
    Nothing,
    /// `X-Forwarded-*` headers written by this many proxies in front.
    ForwardedHeaders {
        /// How many proxies are in front; at least 1.
        hops: u8,
    },
    /// The PROXY protocol, versions 1 and 2.
    ProxyProtocol,
    /// Nothing, and the connection's peer is a proxy that cannot say who the client is: nobody is
    /// told an address.
    Unknown,
}

/// A certificate's name among an Envoy's secrets: `namespace/name` of the Kubernetes Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretId(pub Text);

/// PEM text that never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(pub Text);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem(redacted)")
    }
}

/// A certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub id: SecretId,
    /// The chain and the key, or where they are.
    pub material: Material,
    /// The object it comes from.
    pub origin: Origin,
}

/// A certificate chain and its private key, or where Envoy finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// They are sent to Envoy.
    Inline {
        /// The certificate chain, leaf first, PEM.
        chain: Pem,
        /// The private key of the leaf, PEM.
        key: Pem,
    },
    /// Envoy has them itself: they never leave its pod.
    Mounted {
        /// The folder, absolute, of `tls.crt` and `tls.key`. Envoy reads them again when something is
        /// moved within it, as kubelets do (Envoy, `TlsCertificate.watched_directory`).
        dir: Text,
    },
}

/// What happens to the connections of one server name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsChain {
    /// The server names (SNI) that this chain answers; [`Host::Any`] takes those that no other
    /// chain takes, and connections without a server name.
    pub server_name: Host,
    /// The certificates to choose from; never empty.
    pub certificates: Vec<SecretId>,
    /// The routes of this chain.
    pub table: TableId,
    /// The Gateway's listener.
    pub origin: Origin,
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// HTTP/1.1 and HTTP/2 without TLS.
    Http {
        /// The routes.
        table: TableId,
    },
    /// TLS terminated here, HTTP/1.1 and HTTP/2 within.
    Https {
        /// The chains, most specific server name first; no two with the same server name.
        chains: Vec<TlsChain>,
    },
}

/// One port that Envoy listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: Text,
    /// The port in the container, unprivileged.
    pub port: u16,
    /// The port that clients see (the Gateway listener's), for redirects without a port.
    pub public_port: u16,
    /// What is believed about clients.
    pub trust: Trust,
    /// What it speaks.
    pub kind: ListenerKind,
    /// The Gateway.
    pub origin: Origin,
}
