//! Certificates of a test: a CA and what it signs.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};

/// A certificate and its key.
#[derive(Clone)]
pub struct Signed {
    pub cert: String,
    pub key: String,
}

/// A certificate authority.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new(name: &str) -> Ca {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Ca(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn sign(&self, mut params: CertificateParams) -> Signed {
        let key = KeyPair::generate().unwrap();
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.0).unwrap();
        Signed {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A server's certificate, for `localhost`.
    pub fn server(&self) -> Signed {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// What a client's certificate is made from.
    pub fn client_params(uris: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::default();
        let uris = uris.iter().map(|uri| (*uri).try_into().unwrap());
        params.subject_alt_names = uris.map(SanType::URI).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    }

    /// A client's certificate with these URIs.
    pub fn client(&self, uris: &[&str]) -> Signed {
        self.sign(Ca::client_params(uris))
    }
}
