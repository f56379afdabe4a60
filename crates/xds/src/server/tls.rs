//! The TLS side: who is let in at all.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, crypto, version};

/// Why a server has no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No PEM, or none of the kind.
    #[error("bad PEM of the {0}")]
    Pem(&'static str, #[source] pem::Error),
    /// A PEM file without certificates.
    #[error("no certificate in the PEM of the {0}")]
    Empty(&'static str),
    /// A certificate or key that rustls does not take, or that do not belong together.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The CAs make no verifier.
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
}

/// A server that takes clients of these CAs alone, speaks TLS 1.3 and HTTP/2 alone, and resumes
/// no sessions: a resumed one would outlive its certificate.
///
/// Clients must be told to speak TLS 1.3: Envoy's default maximum is 1.2 (`tls_params`).
///
/// # Arguments
/// `ca_pems`: the CAs' certificates; several while a CA is being replaced. `cert_pem`: the server's
/// certificate and those between it and its CA. `key_pem`: its key.
///
/// # Errors
/// When a PEM is bad, or key and certificate do not belong together.
pub fn server_config(
    ca_pems: &[impl AsRef<[u8]>],
    cert_pem: &[u8],
    key_pem: &[u8],
) -> Result<Arc<ServerConfig>, ConfigError> {
    let mut roots = RootCertStore::empty();
    for pem in ca_pems {
        for certificate in certificates("CA", pem.as_ref())? {
            roots.add(certificate)?;
        }
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|e| ConfigError::Pem("key", e))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("certificate", cert_pem)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| ConfigError::Pem(what, e))?;
    match certificates.is_empty() {
        true => Err(ConfigError::Empty(what)),
        false => Ok(certificates),
    }
}
