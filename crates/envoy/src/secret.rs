//! A certificate with its key, as Envoy fetches it by SDS.

use std::path::Path;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use postern_model::{Material, Pem, Secret, Text};

use crate::check;

/// Whether a secret can be sent. Envoy looks closer (key and certificate must fit, RSA keys have
/// 2,048 bits at least); that the translator has to say before.
pub(crate) fn sendable(secret: &Secret) -> Result<(), Text> {
    check::name("secret", &secret.id.0)?;
    match &secret.material {
        Material::Inline { chain, key } => {
            if !chain.0.contains("-----BEGIN CERTIFICATE-----") {
                return Err("the certificate chain has no PEM certificate".into());
            }
            if !key.0.contains("PRIVATE KEY-----") {
                return Err("the key is no PEM private key".into());
            }
        }
        Material::Mounted { dir } if !Path::new(&**dir).is_absolute() => {
            return Err("the folder of the certificate is not absolute".into());
        }
        Material::Mounted { .. } => {}
    }
    Ok(())
}

/// The secret in Envoy's words. The result is encoded and dropped; nothing prints it.
pub(crate) fn secret(secret: &Secret) -> tls::Secret {
    let Secret {
        id,
        material,
        origin: _,
    } = secret;
    let certificate = match material {
        Material::Inline { chain, key } => tls::TlsCertificate {
            certificate_chain: Some(inline(chain)),
            private_key: Some(inline(key)),
            ..Default::default()
        },
        Material::Mounted { dir } => tls::TlsCertificate {
            certificate_chain: Some(file(dir, "tls.crt")),
            private_key: Some(file(dir, "tls.key")),
            watched_directory: Some(core::WatchedDirectory {
                path: dir.to_string(),
                ..Default::default()
            }),
            ..Default::default()
        },
    };
    tls::Secret {
        name: id.0.to_string(),
        r#type: Some(tls::secret::Type::TlsCertificate(certificate)),
    }
}

fn file(dir: &str, name: &str) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename(format!(
            "{dir}/{name}"
        ))),
        ..Default::default()
    }
}

fn inline(Pem(text): &Pem) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineBytes(
            text.as_bytes().to_vec(),
        )),
        ..Default::default()
    }
}
