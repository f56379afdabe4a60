//! Certificates: whether a Secret holds what a TLS server can use.
//!
//! Envoy refuses a listener's secret that does not parse, whose key does not belong to the
//! certificate, or whose RSA key is short; so such a one is never sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_api::ENVOY_TLS_DIR;
use postern_api::entitlement::InstanceRef;
use postern_model::{Material, Origin, Pem, Secret, SecretId};
use postern_refs::objects::{Body, Object, TlsSecret};
use postern_refs::{Key, Name};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The least bits of an RSA key that Envoy takes.
const RSA_BITS: usize = 2_048;

/// Checked Secrets, kept as long as the object is the same.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    checked: BTreeMap<Key, (Arc<Object<TlsSecret>>, Checked)>,
}

/// A usable certificate, or why it is none.
pub(crate) type Checked = Result<Arc<Secret>, Name>;

impl Certificates {
    /// Checks a Secret, unless it is the one checked before.
    pub(crate) fn check(&mut self, object: &Arc<Object<TlsSecret>>) -> Checked {
        if let Some((known, checked)) = self.checked.get(&object.meta.key)
            && Arc::ptr_eq(known, object)
        {
            return checked.clone();
        }
        let fresh = check(object).map_err(Name::from);
        let checked = match (self.checked.get(&object.meta.key), fresh) {
            // The same content under another resourceVersion: keep what the proxies have.
            (Some((_, Ok(old))), Ok(new)) if **old == new => Ok(old.clone()),
            (_, fresh) => fresh.map(Arc::new),
        };
        let entry = (object.clone(), checked.clone());
        self.checked.insert(object.meta.key.clone(), entry);
        checked
    }

    /// Forgets Secrets that are gone.
    pub(crate) fn retain(&mut self, exists: impl Fn(&Key) -> bool) {
        self.checked.retain(|key, _| exists(key));
    }
}

fn check(object: &Object<TlsSecret>) -> Result<Secret, String> {
    let secret = match &object.body {
        Body::Valid(secret) => secret,
        Body::Invalid { field, reason } => return Err(format!("{field}: {reason}")),
    };
    if &*secret.kind != "kubernetes.io/tls" {
        return Err(format!(
            "its type is {:?}; use kubernetes.io/tls",
            secret.kind
        ));
    }
    let chain = secret
        .certificate
        .as_ref()
        .ok_or("tls.crt is absent or no text")?;
    let key = secret.key.as_ref().ok_or("tls.key is absent or no text")?;
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("tls.crt is no PEM: {error}"))?;
    let leaf = certificates.first().ok_or("tls.crt holds no certificate")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|_| "the first certificate of tls.crt does not parse")?;
    if let Ok(x509_parser::public_key::PublicKey::RSA(rsa)) = parsed.public_key().parsed()
        && rsa.key_size() < RSA_BITS
    {
        return Err(format!("its RSA key has fewer than {RSA_BITS} bits"));
    }
    let private = PrivateKeyDer::from_pem_slice(key.0.as_bytes())
        .map_err(|_| "tls.key holds no private key in PEM")?;
    let signer = rustls::crypto::ring::sign::any_supported_type(&private)
        .map_err(|_| "tls.key is of a type that is not supported (use RSA, P-256 or P-384)")?;
    rustls::sign::CertifiedKey::new(certificates, signer)
        .keys_match()
        .map_err(|_| "tls.key does not belong to the certificate in tls.crt")?;
    let key_name = &object.meta.key;
    Ok(Secret {
        id: secret_id(key_name),
        material: Material::Inline {
            chain: Pem(chain.clone()),
            key: Pem(key.0.clone()),
        },
        origin: Origin {
            kind: "Secret".into(),
            namespace: key_name.namespace.clone(),
            name: key_name.name.clone(),
            field: "data".into(),
        },
    })
}

/// The name of [`mounted`]: no Secret's, since those have a slash.
pub(crate) fn mounted_id() -> SecretId {
    SecretId("mounted".into())
}

/// The certificate that Envoys have themselves, for routers to see: the one that they show to their
/// control plane. Its authority is the instance's own.
pub(crate) fn mounted(instance: &InstanceRef) -> Secret {
    Secret {
        id: mounted_id(),
        material: Material::Mounted {
            dir: ENVOY_TLS_DIR.into(),
        },
        origin: Origin {
            kind: "GatewayInstance".into(),
            namespace: instance.namespace.as_str().into(),
            name: instance.name.as_str().into(),
            field: "spec.exposure.route.termination".into(),
        },
    }
}

/// The name of a Secret's certificate among an Envoy's secrets.
pub(crate) fn secret_id(key: &Key) -> SecretId {
    SecretId(format!("{}/{}", key.namespace, key.name).into())
}
