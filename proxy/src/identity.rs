//! Who this Envoy is, and where its control plane listens.
//!
//! The identity picks nothing here: the control plane reads it from the client certificate.
//! It is needed to know what the *server's* certificate must say, and for logs.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Longest identity accepted, in bytes. SPIFFE allows 2048.
const MAX_LENGTH: usize = 1024;

/// `spiffe://<trust domain>/ns/<namespace>/instance/<name>/shard/<shard>`, the identity of the
/// Envoys of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The SPIFFE trust domain.
    pub trust_domain: String,
    /// The namespace of the GatewayInstance.
    pub namespace: String,
    /// The name of the GatewayInstance.
    pub instance: String,
    /// The name of the shard.
    pub shard: String,
}

/// Why a text is no identity or no address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// The identity has another shape.
    #[error(
        "must be spiffe://<trust domain>/ns/<namespace>/instance/<name>/shard/<shard>, each part of a-z, 0-9, '-' and '.'"
    )]
    Identity,
    /// The address has another shape.
    #[error("must be HOST:PORT, with a host name, an IPv4 address or an [IPv6] address")]
    Authority,
}

impl Identity {
    /// The identity in the certificate of this instance's control plane.
    pub fn control_plane(&self) -> String {
        format!(
            "spiffe://{}/ns/{}/instance/{}/controlplane",
            self.trust_domain, self.namespace, self.instance
        )
    }

    /// Namespace and instance, for logs and for Envoy's `node.cluster`, which picks nothing.
    pub fn label(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.instance, self.shard)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/instance/{}/shard/{}",
            self.trust_domain, self.namespace, self.instance, self.shard
        )
    }
}

impl FromStr for Identity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_LENGTH {
            return Err(ParseError::Identity);
        }
        let rest = text.strip_prefix("spiffe://").ok_or(ParseError::Identity)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [
            trust_domain,
            "ns",
            namespace,
            "instance",
            instance,
            "shard",
            shard,
        ] = parts[..]
        else {
            return Err(ParseError::Identity);
        };
        if [trust_domain, namespace, instance, shard]
            .into_iter()
            .all(is_dns_name)
        {
            Ok(Self {
                trust_domain: trust_domain.to_owned(),
                namespace: namespace.to_owned(),
                instance: instance.to_owned(),
                shard: shard.to_owned(),
            })
        } else {
            Err(ParseError::Identity)
        }
    }
}

/// Lower-case RFC 1123 subdomain.
fn is_dns_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}

/// The host of an [`Authority`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address: no name is resolved.
    Ip(IpAddr),
    /// A DNS name.
    Name(String),
}

/// `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Where.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Authority {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (host, port) = text.rsplit_once(':').ok_or(ParseError::Authority)?;
        let port: u16 = port.parse().map_err(|_| ParseError::Authority)?;
        let host = if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            let address: Ipv6Addr = inner.parse().map_err(|_| ParseError::Authority)?;
            Host::Ip(IpAddr::V6(address))
        } else if let Ok(address) = host.parse() {
            Host::Ip(IpAddr::V4(address))
        } else if is_dns_name(host) {
            Host::Name(host.to_owned())
        } else {
            return Err(ParseError::Authority);
        };
        if port == 0 {
            return Err(ParseError::Authority);
        }
        Ok(Self { host, port })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Ip(address) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "spiffe://cluster.local/ns/team-a/instance/default/shard/main";

    #[test]
    fn an_identity_reads_back_and_names_its_control_plane() {
        let identity: Identity = GOOD.parse().unwrap();
        assert_eq!(identity.to_string(), GOOD);
        assert_eq!(
            identity.control_plane(),
            "spiffe://cluster.local/ns/team-a/instance/default/controlplane"
        );
        assert_eq!(identity.label(), "team-a/default/main");
    }

    #[test]
    fn other_shapes_are_no_identity() {
        let long = format!("{GOOD}{}", "a".repeat(MAX_LENGTH));
        for bad in [
            "",
            "spiffe://",
            "spiffe://td/ns/a/instance/b",
            "spiffe://td/ns/a/instance/b/controlplane",
            "spiffe://td/ns/a/instance/b/shard/",
            "spiffe://td/ns/a/instance/b/shard/c/",
            "spiffe://td/ns/a/instance/b/shard/c/d",
            "spiffe://td//ns/a/instance/b/shard/c",
            "https://td/ns/a/instance/b/shard/c",
            "spiffe://td/ns/../instance/b/shard/c",
            "spiffe://td/ns/A/instance/b/shard/c",
            "spiffe://td/ns/a%2f/instance/b/shard/c",
            "spiffe://td/ns/a\"/instance/b/shard/c",
            "spiffe://td/ns/a\n/instance/b/shard/c",
            "spiffe://td:1/ns/a/instance/b/shard/c",
            "spiffe://td/ns/-a/instance/b/shard/c",
            "spiffe://td/sn/a/instance/b/shard/c",
            long.as_str(),
        ] {
            assert_eq!(
                bad.parse::<Identity>(),
                Err(ParseError::Identity),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        for (text, host) in [
            ("10.0.0.1:18000", Host::Ip("10.0.0.1".parse().unwrap())),
            ("[fd00::1]:18000", Host::Ip("fd00::1".parse().unwrap())),
            ("cp.team-a.svc:18000", Host::Name("cp.team-a.svc".into())),
        ] {
            let authority: Authority = text.parse().unwrap();
            assert_eq!(authority.host, host);
            assert_eq!(authority.port, 18000);
            assert_eq!(authority.to_string(), text);
        }
        for bad in [
            "",
            "host",
            "host:",
            "host:0",
            "host:65536",
            ":1",
            "fd00::1:18000",
            "[host]:1",
            "ho st:1",
            "host:1\n",
            "unix:/run/x",
        ] {
            assert_eq!(
                bad.parse::<Authority>(),
                Err(ParseError::Authority),
                "{bad:?}"
            );
        }
    }
}
