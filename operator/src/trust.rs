//! Whom routers are to believe: the authorities that an instance's control plane published.
//!
//! Tenants may write that ConfigMap: what is there reaches the Routes of their own instance alone,
//! and is looked at before, so that nothing but certificates gets in, and not many.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use postern_api::names::InstanceNames;
use postern_refs::Key;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::shared::Shared;

/// How often is asked until the control plane has published them.
pub const SOON: Duration = Duration::from_secs(2);
/// How often is asked after that. New authorities are announced long before they sign.
pub const RECHECK: Duration = Duration::from_secs(30);

/// The longest text that is taken, in bytes; a control plane publishes less than 1 KiB a certificate.
const MOST: usize = 32 * 1024;
/// The key in the ConfigMap.
const KEY: &str = "ca.crt";

const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----\n";

/// The authorities of an instance; `None` if there are none, or nothing that could be believed.
///
/// # Errors
/// If the API server refuses or cannot be reached: as long as the right to read it is new, that is
/// usual.
pub async fn read(shared: &Shared, key: &Key) -> Result<Option<String>, kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(shared.client.clone(), &key.namespace);
    let name = InstanceNames::new(&key.name).trust();
    let found = api.get_opt(&name).await?;
    let text = found.and_then(|mut found| found.data.as_mut()?.remove(KEY));
    let Some(text) = text else {
        return Ok(None);
    };
    if !is_certificates(&text) {
        tracing::warn!(instance = %key, "the published authorities are no certificates in PEM");
        return Ok(None);
    }
    Ok(Some(text))
}

/// Whether a text is certificates in PEM, and nothing between them.
fn is_certificates(text: &str) -> bool {
    if text.is_empty() || text.len() > MOST {
        return false;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=\n".contains(&byte);
    let whole = text.split_inclusive(END).all(|part| {
        let body = part
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(END));
        body.is_some_and(|body| body.bytes().all(plain))
    });
    whole && CertificateDer::pem_slice_iter(text.as_bytes()).all(|certificate| certificate.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_get_into_routes() {
        let one = format!("{BEGIN}MAA=\n{END}");
        assert!(is_certificates(&one));
        assert!(is_certificates(&one.repeat(8)));
        for wrong in [
            String::new(),
            one.replace('\n', "\r\n"),
            format!("{one}more"),
            format!("x{one}"),
            one.replace("MAA=", "!"),
            one.replace("CERTIFICATE", "PRIVATE KEY"),
            format!("{BEGIN}{one}"),
            one.repeat(1000),
        ] {
            assert!(!is_certificates(&wrong), "{wrong:?}");
        }
    }
}
