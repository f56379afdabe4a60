//! Who an Envoy is: the SPIFFE identity in its client certificate.
//!
//! `spiffe://<trust domain>/ns/<namespace>/instance/<name>/shard/<shard>`
//!
//! Source: SPIFFE-ID and X509-SVID specifications. The form here is narrower than theirs.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Greatest length of an identity, in bytes (SPIFFE-ID, section 2.3).
pub const MAX_IDENTITY: usize = 2048;

/// The identity of all replicas of one shard of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    trust_domain: String,
    namespace: String,
    instance: String,
    shard: String,
}

/// Why something is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate, or more than one.
    #[error("not a certificate")]
    NotACertificate,
    /// A certificate names exactly one URI.
    #[error("{0} URIs in the certificate's subjectAltName, not one")]
    NotOneUri(usize),
    /// Not of the form above.
    #[error("not of the form spiffe://<trust domain>/ns/<namespace>/instance/<name>/shard/<shard>")]
    Form,
    /// The trust domain: 1 to 253 of `a-z0-9.-`, beginning and ending in a letter or digit.
    #[error("invalid trust domain")]
    TrustDomain,
    /// The namespace or shard: a label of RFC 1123.
    #[error("invalid {0}")]
    Label(&'static str),
    /// The instance: a subdomain of RFC 1123, as names of custom resources are.
    #[error("invalid instance")]
    Instance,
}

impl Identity {
    /// An identity of these parts.
    ///
    /// # Errors
    /// When a part has characters or a length that it must not have.
    pub fn new(
        trust_domain: &str,
        namespace: &str,
        instance: &str,
        shard: &str,
    ) -> Result<Identity, IdentityError> {
        if !subdomain(trust_domain) {
            return Err(IdentityError::TrustDomain);
        }
        if !label(namespace) {
            return Err(IdentityError::Label("namespace"));
        }
        if !subdomain(instance) {
            return Err(IdentityError::Instance);
        }
        if !label(shard) {
            return Err(IdentityError::Label("shard"));
        }
        Ok(Identity {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            instance: instance.to_owned(),
            shard: shard.to_owned(),
        })
    }

    /// The identity in a DER certificate, whose chain must have been verified before.
    ///
    /// # Errors
    /// When it is no certificate, or has no or several URIs, or one that is no identity.
    pub fn of_certificate(der: &[u8]) -> Result<Identity, IdentityError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| IdentityError::NotACertificate)?;
        if !rest.is_empty() {
            return Err(IdentityError::NotACertificate);
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| IdentityError::NotACertificate)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris.as_slice() {
            [uri] => uri.parse(),
            other => Err(IdentityError::NotOneUri(other.len())),
        }
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The namespace of the instance.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of the `GatewayInstance`.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The name of the shard.
    #[must_use]
    pub fn shard(&self) -> &str {
        &self.shard
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity {
            trust_domain,
            namespace,
            instance,
            shard,
        } = self;
        write!(
            f,
            "spiffe://{trust_domain}/ns/{namespace}/instance/{instance}/shard/{shard}"
        )
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Identity, IdentityError> {
        if uri.len() > MAX_IDENTITY {
            return Err(IdentityError::Form);
        }
        let rest = uri.strip_prefix("spiffe://").ok_or(IdentityError::Form)?;
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            [
                domain,
                "ns",
                namespace,
                "instance",
                instance,
                "shard",
                shard,
            ] => Identity::new(domain, namespace, instance, shard),
            _ => Err(IdentityError::Form),
        }
    }
}

/// When a DER certificate expires; `None` if it is none.
pub(crate) fn not_after(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn label(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&text.len())
        && text.as_bytes().iter().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "spiffe://postern.example/ns/team-a/instance/web.v2/shard/default";

    fn certificate(sans: Vec<rcgen::SanType>) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = sans;
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> rcgen::SanType {
        rcgen::SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn display_gives_back_what_was_parsed() {
        let identity: Identity = GOOD.parse().unwrap();
        assert_eq!(identity.trust_domain(), "postern.example");
        assert_eq!(identity.namespace(), "team-a");
        assert_eq!(identity.instance(), "web.v2");
        assert_eq!(identity.shard(), "default");
        assert_eq!(identity.to_string(), GOOD);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "spiffe://",
            "SPIFFE://postern.example/ns/a/instance/b/shard/c",
            "https://postern.example/ns/a/instance/b/shard/c",
            "spiffe://postern.example/ns/a/instance/b",
            "spiffe://postern.example/ns/a/instance/b/shard/c/",
            "spiffe://postern.example/ns/a/instance/b/shard/c/d",
            "spiffe://postern.example//ns/a/instance/b/shard/c",
            "spiffe://postern.example/ns/a/sa/b/shard/c",
            "spiffe://postern.example/ns//instance/b/shard/c",
            "spiffe://postern.example/ns/../instance/b/shard/c",
            "spiffe://postern.example/ns/a%2Fb/instance/b/shard/c",
            "spiffe://postern.example/ns/A/instance/b/shard/c",
            "spiffe://postern.example/ns/a.b/instance/b/shard/c",
            "spiffe://postern.example/ns/a/instance/b..c/shard/c",
            "spiffe://postern.example/ns/a/instance/b/shard/c?x",
            "spiffe://postern.example/ns/a/instance/b/shard/c#x",
            "spiffe://postern.example/ns/a/instance/b/shard/c\0",
            "spiffe://postern.example/ns/a/instance/b/shard/c\n",
            "spiffe://postern.example/ns/a/instance/b/shard/ö",
            "spiffe://user@postern.example/ns/a/instance/b/shard/c",
            "spiffe://postern.example:1/ns/a/instance/b/shard/c",
            "spiffe:///ns/a/instance/b/shard/c",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad:?}");
        }
        let long = "a".repeat(64);
        assert!(Identity::new("d", &long, "i", "s").is_err());
        assert!(Identity::new("d", &long[1..], "i", "s").is_ok());
    }

    #[test]
    fn a_certificate_names_exactly_one_uri() {
        let one = certificate(vec![
            rcgen::SanType::DnsName("a.example".try_into().unwrap()),
            uri(GOOD),
        ]);
        assert_eq!(Identity::of_certificate(&one), Ok(GOOD.parse().unwrap()));

        let none = certificate(vec![rcgen::SanType::DnsName(
            "a.example".try_into().unwrap(),
        )]);
        let error = Err(IdentityError::NotOneUri(0));
        assert_eq!(Identity::of_certificate(&none), error);
        let no_names = certificate(Vec::new());
        assert_eq!(Identity::of_certificate(&no_names), error);

        let other = "spiffe://postern.example/ns/team-b/instance/web/shard/default";
        let two = certificate(vec![uri(GOOD), uri(other)]);
        let error = Err(IdentityError::NotOneUri(2));
        assert_eq!(Identity::of_certificate(&two), error);

        let wrong = certificate(vec![uri("spiffe://postern.example/ns/team-a/sa/default")]);
        assert_eq!(Identity::of_certificate(&wrong), Err(IdentityError::Form));

        let mut trailing = one;
        trailing.push(0);
        let error = Err(IdentityError::NotACertificate);
        assert_eq!(Identity::of_certificate(&trailing), error);
        assert_eq!(Identity::of_certificate(b"junk"), error);
    }
}
