//! Certificates and keys, read without trust in who wrote them.

use std::fmt;
use std::sync::Arc;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::subject::Subject;

/// The longest PEM text that is looked at, in bytes. Ours are under 1 KiB a certificate.
pub const MAX_PEM: usize = 32 * 1024;
/// The most authorities that are trusted at a time. Two are usual while they change.
pub const MAX_AUTHORITIES: usize = 8;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----\n";

/// A private key in PEM (PKCS #8). `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Arc<str>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    pub(super) fn new(pem: &str) -> Key {
        Key(pem.into())
    }

    /// The PEM text.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.0
    }

    /// The key, for signing.
    pub(super) fn pair(&self) -> Result<KeyPair, Damage> {
        if self.0.len() > MAX_PEM {
            return Err(Damage::TooLarge);
        }
        KeyPair::from_pem_and_sign_algo(&self.0, &PKCS_ECDSA_P256_SHA256).map_err(|_| Damage::Key)
    }
}

/// Why something in the store is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A part of it is not there.
    #[error("has no {0}")]
    Missing(&'static str),
    /// No text.
    #[error("is not text in UTF-8")]
    NotText,
    /// Longer than [`MAX_PEM`].
    #[error("is longer than {MAX_PEM} bytes")]
    TooLarge,
    /// Not one certificate in PEM.
    #[error("is not exactly one certificate in PEM")]
    NotOneCertificate,
    /// Not a key on P-256 in PEM, PKCS #8.
    #[error("has a key that is none on P-256 in PKCS #8")]
    Key,
    /// Certificate and key are not of each other.
    #[error("has a certificate of another key")]
    KeyMismatch,
    /// The certificate names others than it should.
    #[error("has a certificate that names someone else")]
    Names,
    /// Not an authority, or one where none should be.
    #[error("has a certificate that is not of the right kind")]
    Kind,
    /// Ended, or not begun.
    #[error("has a certificate that is not valid now")]
    NotNow,
    /// No authority that is trusted signed it.
    #[error("has a certificate that no authority of this instance signed")]
    UnknownIssuer,
    /// More than [`MAX_AUTHORITIES`].
    #[error("has more than {MAX_AUTHORITIES} authorities")]
    TooMany,
    /// The times of an authority that is being announced or was replaced are unreadable.
    #[error("has no readable account of its authorities")]
    State,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The xDS server.
    Server,
    /// The Envoys of a shard: clients of the xDS server, and servers to routers.
    Envoy,
}

/// Whom a certificate must name, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is for.
    pub usage: Usage,
    /// The one URI.
    pub uri: String,
    /// All DNS names, sorted.
    pub dns: Vec<String>,
}

impl Wanted {
    /// The xDS server's certificate.
    #[must_use]
    pub fn server(subject: &Subject) -> Wanted {
        Wanted {
            usage: Usage::Server,
            uri: subject.control_plane_uri(),
            dns: subject.dns().iter().cloned().collect(),
        }
    }

    /// The certificate of a shard's Envoys.
    #[must_use]
    pub fn shard(subject: &Subject, shard: &str) -> Wanted {
        Wanted {
            usage: Usage::Envoy,
            uri: subject.shard_uri(shard),
            dns: Vec::new(),
        }
    }
}

/// A certificate authority of the instance. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The certificate, in PEM.
    pub certificate: Arc<str>,
    /// The key; absent where it signs no more.
    pub key: Option<Key>,
    /// The serial number, in hexadecimal.
    pub serial: String,
    /// Beginning of its validity.
    pub not_before: u64,
    /// End of its validity.
    pub not_after: u64,
    /// Since when it has been in everything that lists whom to trust.
    pub published: Option<u64>,
    /// Since when no certificate of its making is in the store.
    pub retired: Option<u64>,
}

/// A certificate with its key, as its user has them. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The certificate, in PEM.
    pub certificate: Arc<str>,
    /// Its key.
    pub key: Key,
    /// The authorities beside it, in PEM: whom its user trusts.
    pub trust: Arc<str>,
    /// Beginning of its validity.
    pub not_before: u64,
    /// End of its validity.
    pub not_after: u64,
}

impl Authority {
    /// The authority of a subject in a PEM text, without a key.
    ///
    /// # Errors
    /// When it is no certificate of an authority, or of the authority of someone else.
    pub fn read(certificate: &str, subject: &Subject) -> Result<Authority, Damage> {
        let facts = Facts::read(certificate)?;
        if !facts.authority {
            return Err(Damage::Kind);
        }
        let name = subject.common_name(&facts.serial);
        if !facts.only_names(&subject.authority_uri(), &[]) || facts.common_name != Some(name) {
            return Err(Damage::Names);
        }
        Ok(Authority {
            certificate: certificate.into(),
            key: None,
            serial: hex(&facts.serial),
            not_before: facts.not_before,
            not_after: facts.not_after,
            published: None,
            retired: None,
        })
    }

    /// The authority with this key.
    ///
    /// # Errors
    /// When the key is unreadable, or of another certificate.
    pub fn with_key(mut self, key: &Key) -> Result<Authority, Damage> {
        matches(&self.certificate, key)?;
        self.key = Some(key.clone());
        Ok(self)
    }

    /// Whether this authority signed that certificate, and it is valid now for that use. This
    /// asks the verifiers that the connection's other end has, rather than reading fields.
    #[must_use]
    pub fn issued(&self, leaf: &Leaf, usage: Usage, now: UnixTime) -> bool {
        let provider = provider();
        let Ok(roots) = roots(&self.certificate) else {
            return false;
        };
        let Ok(certificate) = one_certificate(&leaf.certificate) else {
            return false;
        };
        let serves = ParsedCertificate::try_from(&certificate)
            .and_then(|parsed| {
                let algorithms = provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, algorithms)
            })
            .is_ok();
        let asks = || {
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .is_ok_and(|verifier| verifier.verify_client_cert(&certificate, &[], now).is_ok())
        };
        match usage {
            Usage::Server => serves,
            Usage::Envoy => serves && asks(),
        }
    }
}

impl Leaf {
    /// A certificate with key and authorities, if it names whom it should. Who signed it, and
    /// whether it is valid now, is not looked at.
    ///
    /// # Errors
    /// When it is damaged, or someone else's.
    pub fn read(
        certificate: &str,
        key: &Key,
        trust: &str,
        wanted: &Wanted,
    ) -> Result<Leaf, Damage> {
        let facts = Facts::read(certificate)?;
        matches(certificate, key)?;
        if facts.authority {
            return Err(Damage::Kind);
        }
        if !facts.only_names(&wanted.uri, &wanted.dns) {
            return Err(Damage::Names);
        }
        Ok(Leaf {
            certificate: certificate.into(),
            key: key.clone(),
            trust: trust.into(),
            not_before: facts.not_before,
            not_after: facts.not_after,
        })
    }
}

/// What Postern looks at in a certificate.
struct Facts {
    serial: Vec<u8>,
    not_before: u64,
    not_after: u64,
    common_name: Option<String>,
    uris: Vec<String>,
    dns: Vec<String>,
    other_names: usize,
    authority: bool,
    public_key: Vec<u8>,
}

impl Facts {
    fn read(pem: &str) -> Result<Facts, Damage> {
        let der = one_certificate(pem)?;
        let (rest, parsed) =
            X509Certificate::from_der(&der).map_err(|_| Damage::NotOneCertificate)?;
        if !rest.is_empty() {
            return Err(Damage::NotOneCertificate);
        }
        let mut facts = Facts {
            serial: parsed.raw_serial().to_vec(),
            not_before: parsed
                .validity()
                .not_before
                .timestamp()
                .try_into()
                .unwrap_or(0),
            not_after: parsed
                .validity()
                .not_after
                .timestamp()
                .try_into()
                .unwrap_or(0),
            common_name: None,
            uris: Vec::new(),
            dns: Vec::new(),
            other_names: 0,
            authority: parsed.is_ca(),
            public_key: parsed.public_key().raw.to_vec(),
        };
        let mut names = parsed.subject().iter_common_name();
        if let (Some(name), None) = (names.next(), names.next()) {
            facts.common_name = name.as_str().ok().map(str::to_owned);
        }
        let alternative = parsed
            .subject_alternative_name()
            .map_err(|_| Damage::Names)?;
        for name in alternative
            .iter()
            .flat_map(|names| &names.value.general_names)
        {
            match name {
                GeneralName::URI(uri) => facts.uris.push((*uri).to_owned()),
                GeneralName::DNSName(dns) => facts.dns.push((*dns).to_owned()),
                _ => facts.other_names += 1,
            }
        }
        facts.dns.sort_unstable();
        Ok(facts)
    }

    fn only_names(&self, uri: &str, dns: &[String]) -> bool {
        self.uris == [uri] && self.dns == dns && self.other_names == 0
    }
}

/// The one certificate in a PEM text, which holds nothing else: what is read here is published.
pub(super) fn one_certificate(pem: &str) -> Result<CertificateDer<'static>, Damage> {
    if pem.len() > MAX_PEM {
        return Err(Damage::TooLarge);
    }
    if !pem.starts_with(BEGIN) || !pem.ends_with(END) || pem.matches("-----BEGIN").count() != 1 {
        return Err(Damage::NotOneCertificate);
    }
    let mut all = CertificateDer::pem_slice_iter(pem.as_bytes());
    match (all.next(), all.next()) {
        (Some(Ok(one)), None) => Ok(one),
        _ => Err(Damage::NotOneCertificate),
    }
}

/// The certificates of a PEM text as trust anchors.
pub(super) fn roots(pem: &str) -> Result<RootCertStore, Damage> {
    if pem.len() > MAX_PEM {
        return Err(Damage::TooLarge);
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| Damage::NotOneCertificate)?;
        roots.add(certificate).map_err(|_| Damage::Kind)?;
    }
    Ok(roots)
}

/// A PEM text of several certificates, one text each. What is none is left out.
pub(super) fn split(pem: &str) -> Vec<String> {
    pem.split_inclusive(END)
        .filter(|part| part.ends_with(END))
        .map(str::to_owned)
        .collect()
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn matches(certificate: &str, key: &Key) -> Result<(), Damage> {
    let facts = Facts::read(certificate)?;
    let pair = key.pair()?;
    if pair.subject_public_key_info() == facts.public_key {
        Ok(())
    } else {
        Err(Damage::KeyMismatch)
    }
}
