//! The TLS side of the xDS server.
//!
//! A [`rustls::ServerConfig`] for each state of the keys, in a watch channel: the server takes
//! the newest at each handshake, and connections that stand are left alone.

use std::sync::Arc;

use postern_xds::server::{self, ConfigError};
use rustls::ServerConfig;
use tokio::sync::watch;

use super::authority::{Bundle, trust};
use super::material::Leaf;

/// Why keys cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The bundle has no certificate for the server.
    #[error("no certificate for the server")]
    NoCertificate,
    /// Certificate, key or authorities make no server.
    #[error(transparent)]
    Refused(#[from] ConfigError),
}

/// The configuration that a bundle gives the xDS server: see [`postern_xds::server`]. Sessions are
/// not resumed, so each connection is checked against the authorities of its time.
///
/// # Errors
/// When the bundle holds no usable certificate.
pub fn server_config(bundle: &Bundle) -> Result<Arc<ServerConfig>, TlsError> {
    let leaf = bundle.server.as_ref().ok_or(TlsError::NoCertificate)?;
    let authorities: Vec<&str> = bundle.authorities.iter().map(|a| &*a.certificate).collect();
    let key = leaf.key.pem().as_bytes();
    Ok(server::server_config(
        &authorities,
        leaf.certificate.as_bytes(),
        key,
    )?)
}

/// Hands configurations to the server, one for each change of its certificate or authorities.
#[derive(Debug)]
pub(super) struct Publisher {
    sender: Option<watch::Sender<Arc<ServerConfig>>>,
    published: Option<(Leaf, String)>,
}

impl Publisher {
    pub(super) fn new() -> Publisher {
        Publisher {
            sender: None,
            published: None,
        }
    }

    /// Publishes what a bundle gives, if it differs; says whether it did.
    pub(super) fn publish(&mut self, bundle: &Bundle) -> Result<bool, TlsError> {
        let leaf = bundle.server.clone().ok_or(TlsError::NoCertificate)?;
        let state = Some((leaf, trust(&bundle.authorities)));
        if state == self.published {
            return Ok(false);
        }
        let config = server_config(bundle)?;
        match &self.sender {
            Some(sender) => drop(sender.send_replace(config)),
            None => self.sender = Some(watch::channel(config).0),
        }
        self.published = state;
        Ok(true)
    }

    /// The newest configuration and those to come; nothing before there is one.
    pub(super) fn receiver(&self) -> Option<watch::Receiver<Arc<ServerConfig>>> {
        self.sender.as_ref().map(watch::Sender::subscribe)
    }
}

#[cfg(test)]
mod tests;
