//! The cluster's certificate authority, its certificates, and kubeconfigs.
//!
//! One authority signs servers, components and users; a second one signs the aggregation layer's
//! proxy, so that no user's certificate can pass for it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

use crate::config::{Addresses, NODE};
use crate::layout::write_private;

/// Which side of a connection a certificate is for.
#[derive(Clone, Copy)]
enum Side {
    Server,
    Client,
}

/// The folder that holds the keys.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    dir: PathBuf,
}

impl Pki {
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes everything: `ca`, `front-ca`, and `NAME.crt` with `NAME.key` for each component, and
    /// the key pair of service-account tokens (`sa.key`, `sa.pub`).
    pub fn create(&self, addresses: &Addresses) -> Result<()> {
        self.authority("ca")?;
        self.authority("front-ca")?;
        let ca = self.issuer("ca")?;
        let server_names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ];
        let mut apiserver: Vec<String> = server_names.map(str::to_owned).to_vec();
        apiserver.extend(
            [
                Ipv4Addr::LOCALHOST,
                addresses.node,
                addresses.first_service(),
            ]
            .map(|ip| ip.to_string()),
        );
        self.issue(
            &ca,
            "apiserver",
            Side::Server,
            "kube-apiserver",
            &[],
            apiserver,
        )?;
        let node_user = format!("system:node:{NODE}");
        let kubelet = vec![NODE.to_owned(), addresses.node.to_string()];
        self.issue(
            &ca,
            "kubelet-server",
            Side::Server,
            &node_user,
            &["system:nodes"],
            kubelet,
        )?;
        for (file, user, group) in [
            ("admin", "admin", Some("system:masters")),
            (
                "apiserver-kubelet-client",
                "kube-apiserver-kubelet-client",
                Some("system:masters"),
            ),
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("proxy", "system:kube-proxy", None),
            ("kubelet", &node_user, Some("system:nodes")),
            ("coredns", "postern:coredns", None),
            ("netpol", "postern:netpol", None),
        ] {
            self.issue(&ca, file, Side::Client, user, group.as_slice(), vec![])?;
        }
        let front = self.issuer("front-ca")?;
        self.issue(
            &front,
            "front-proxy",
            Side::Client,
            "front-proxy-client",
            &[],
            vec![],
        )?;

        let tokens = KeyPair::generate()?;
        write_private(&self.file("sa.key"), tokens.serialize_pem().as_bytes())?;
        write_private(&self.file("sa.pub"), tokens.public_key_pem().as_bytes())
    }

    /// Makes a client certificate for any user and groups; returns certificate and key as PEM.
    pub fn user(&self, user: &str, groups: &[&str]) -> Result<(String, String)> {
        ensure!(!user.is_empty(), "a user has a name");
        sign(&self.issuer("ca")?, Side::Client, user, groups, vec![])
    }

    fn authority(&self, name: &str) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = parameters(&format!("postern-cluster-{name}"), &[], vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key)?;
        self.write(name, &certificate.pem(), &key.serialize_pem())
    }

    fn issuer(&self, name: &str) -> Result<Issuer<'static, KeyPair>> {
        let read = |end: &str| {
            let path = self.file(&format!("{name}.{end}"));
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let key = KeyPair::from_pem(&read("key")?)?;
        Ok(Issuer::from_ca_cert_pem(&read("crt")?, key)?)
    }

    fn issue(
        &self,
        issuer: &Issuer<'_, KeyPair>,
        file: &str,
        side: Side,
        user: &str,
        groups: &[&str],
        names: Vec<String>,
    ) -> Result<()> {
        let (certificate, key) = sign(issuer, side, user, groups, names)
            .with_context(|| format!("certificate for {user}"))?;
        self.write(file, &certificate, &key)
    }

    fn write(&self, name: &str, certificate: &str, key: &str) -> Result<()> {
        write_private(&self.file(&format!("{name}.crt")), certificate.as_bytes())?;
        write_private(&self.file(&format!("{name}.key")), key.as_bytes())
    }
}

/// The identifier of organizationName (X.520), as a type of its own.
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// The API server takes the common name as the user and each organization as a group.
fn parameters(user: &str, groups: &[&str], names: Vec<String>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, user);
    // rcgen keeps one value a type and knows this one under two names.
    let types = [
        DnType::OrganizationName,
        DnType::CustomDnType(ORGANIZATION.to_vec()),
    ];
    ensure!(
        groups.len() <= types.len(),
        "a client certificate made here holds {} groups at most, {user} has {}",
        types.len(),
        groups.len()
    );
    for (kind, group) in types.into_iter().zip(groups) {
        subject.push(kind, *group);
    }
    params.distinguished_name = subject;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2060, 1, 1);
    Ok(params)
}

fn sign(
    issuer: &Issuer<'_, KeyPair>,
    side: Side,
    user: &str,
    groups: &[&str],
    names: Vec<String>,
) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = parameters(user, groups, names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match side {
        Side::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Side::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes a kubeconfig, with everything in it, for this user alone. It is JSON, which is YAML.
pub(crate) fn write_kubeconfig(
    path: &Path,
    cluster: &str,
    port: u16,
    ca: &str,
    (certificate, key): (&str, &str),
) -> Result<()> {
    let encode = |text: &str| BASE64.encode(text.as_bytes());
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": encode(ca),
        }}],
        "users": [{"name": "user", "user": {
            "client-certificate-data": encode(certificate),
            "client-key-data": encode(key),
        }}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": "user"}}],
        "current-context": cluster,
    });
    write_private(path, &serde_json::to_vec_pretty(&config)?)
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    fn made() -> (tempfile::TempDir, Pki) {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::at(dir.path().to_owned());
        pki.create(&Addresses::numbered(0).unwrap()).unwrap();
        (dir, pki)
    }

    fn der(pem: &[u8]) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem).unwrap()
    }

    fn values<'a>(certificate: &'a X509Certificate<'_>, oid: &str) -> Vec<&'a str> {
        certificate
            .subject()
            .iter_attributes()
            .filter(|a| a.attr_type().to_id_string() == oid)
            .map(|a| a.as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_user_has_name_and_groups_and_may_not_serve() {
        let (_dir, pki) = made();
        let ca = der(&fs::read(pki.file("ca.crt")).unwrap());
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        let front = der(&fs::read(pki.file("front-ca.crt")).unwrap());
        let (_, front) = X509Certificate::from_der(&front).unwrap();
        let (pem, key) = pki.user("alice", &["team-a", "auditors"]).unwrap();
        let cert = der(pem.as_bytes());
        let (_, cert) = X509Certificate::from_der(&cert).unwrap();
        cert.verify_signature(Some(ca.public_key())).unwrap();
        assert!(cert.verify_signature(Some(front.public_key())).is_err());
        assert_eq!(values(&cert, "2.5.4.3"), ["alice"]);
        assert_eq!(values(&cert, "2.5.4.10"), ["team-a", "auditors"]);
        let usage = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert!(!cert.is_ca());
        PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        assert!(pki.user("bob", &["a", "b", "c"]).is_err());
        assert!(pki.user("", &[]).is_err());
    }

    #[test]
    fn the_api_server_answers_to_every_address_it_is_reached_by() {
        let (_dir, pki) = made();
        let cert = der(&fs::read(pki.file("apiserver.crt")).unwrap());
        let (_, cert) = X509Certificate::from_der(&cert).unwrap();
        let names = cert.subject_alternative_name().unwrap().unwrap();
        let addresses: Vec<_> = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::IPAddress(ip) => Some(ip.to_vec()),
                _ => None,
            })
            .collect();
        assert_eq!(
            addresses,
            [vec![127, 0, 0, 1], vec![198, 18, 0, 10], vec![10, 96, 0, 1]]
        );
    }

    #[test]
    fn keys_are_private_and_kubeconfigs_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, _) = made();
        let mut seen = 0;
        for entry in fs::read_dir(dir.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
            seen += 1;
        }
        assert_eq!(
            seen,
            2 * (2 + 2 + 8 + 1) + 2,
            "authorities, servers, clients, front, tokens"
        );
        let path = dir.path().join("kubeconfig");
        write_kubeconfig(&path, "c", 1234, "CA", ("CERT", "KEY")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            config["clusters"][0]["cluster"]["server"],
            "https://127.0.0.1:1234"
        );
        assert_eq!(config["users"][0]["user"]["client-key-data"], "S0VZ");
    }
}
