//! The TLS connection of a real Envoy to its control plane: whom it believes, what it shows, and
//! that rotated files are taken up. The server here only shakes hands.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use common::{DEADLINE, directory, envoy_binary, settings};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ProtocolVersion, RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const CONTROL_PLANE: &str = "spiffe://test.local/ns/team-a/instance/default/controlplane";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Clone)]
struct Leaf {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn leaf(&self, uri: &str, serial: u64) -> Leaf {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        Leaf {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn server_config(authority: &Authority, leaf: &Leaf) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(der(&authority.pem)).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![der(&leaf.certificate)], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A handshake, as the server saw it.
#[derive(Debug)]
enum Handshake {
    Done {
        client: CertificateDer<'static>,
        server_name: Option<String>,
        protocol: Option<Vec<u8>>,
        version: Option<ProtocolVersion>,
    },
    Failed(String),
}

struct Server {
    address: std::net::SocketAddr,
    config: tokio::sync::watch::Sender<Arc<ServerConfig>>,
    /// Each with the configuration that the server had.
    handshakes: mpsc::UnboundedReceiver<(Arc<ServerConfig>, Handshake)>,
}

impl Server {
    async fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, handshakes) = mpsc::unbounded_channel();
        let (config, current) = tokio::sync::watch::channel(config);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let config = Arc::clone(&current.borrow());
                let seen = match TlsAcceptor::from(Arc::clone(&config)).accept(stream).await {
                    Ok(tls) => {
                        let session = tls.get_ref().1;
                        Handshake::Done {
                            client: session.peer_certificates().unwrap()[0].clone().into_owned(),
                            server_name: session.server_name().map(str::to_owned),
                            protocol: session.alpn_protocol().map(<[u8]>::to_vec),
                            version: session.protocol_version(),
                        }
                    }
                    Err(error) => Handshake::Failed(error.to_string()),
                };
                // Closed here, so that Envoy connects again.
                if sender.send((config, seen)).is_err() {
                    return;
                }
            }
        });
        Self {
            address,
            config,
            handshakes,
        }
    }

    async fn next(&mut self) -> Handshake {
        tokio::time::timeout(DEADLINE, self.handshakes.recv())
            .await
            .unwrap()
            .unwrap()
            .1
    }

    /// Changes the configuration, and waits for the first handshake with it.
    async fn next_with(&mut self, config: &Arc<ServerConfig>) -> Handshake {
        self.config.send_replace(Arc::clone(config));
        let all = async {
            loop {
                let (had, handshake) = self.handshakes.recv().await.unwrap();
                if Arc::ptr_eq(&had, config) {
                    return handshake;
                }
            }
        };
        tokio::time::timeout(DEADLINE, all).await.unwrap()
    }

    /// Waits for a handshake with this client certificate.
    async fn shown(&mut self, certificate: &str) {
        let wanted = der(certificate);
        let all = async {
            loop {
                match self.next().await {
                    Handshake::Done { client, .. } if client == wanted => return,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(DEADLINE, all).await.unwrap();
    }
}

fn write(directory: &Path, leaf: &Leaf, authority: &str) {
    std::fs::create_dir_all(directory).unwrap();
    common::put(&directory.join("tls.crt"), leaf.certificate.as_bytes());
    common::put(&directory.join("tls.key"), leaf.key.as_bytes());
    common::put(&directory.join("ca.crt"), authority.as_bytes());
}

#[tokio::test]
async fn both_sides_show_who_they_are() {
    let Some(envoy) = envoy_binary() else { return };
    let authority = Authority::new("a");
    let config = server_config(&authority, &authority.leaf(CONTROL_PLANE, 1));
    let mut server = Server::start(config).await;
    let root = directory();
    let mut settings = settings(envoy, root.path());
    settings.xds = server.address.to_string().parse().unwrap();
    settings.xds_server_name = Some("controlplane.team-a.svc".to_owned());
    let leaf = authority.leaf(common::IDENTITY, 2);
    write(&settings.tls_dir, &leaf, &authority.pem);
    let _supervisor = common::start(&settings).await.unwrap();
    match server.next().await {
        Handshake::Done {
            client,
            server_name,
            protocol,
            version,
        } => {
            assert_eq!(client, der(&leaf.certificate));
            assert_eq!(server_name.as_deref(), Some("controlplane.team-a.svc"));
            assert_eq!(protocol.as_deref(), Some(&b"h2"[..]));
            assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
        }
        Handshake::Failed(error) => unreachable!("{error}"),
    }
}

/// Whoever may mint or steal another certificate of the same authority is no control plane, nor is
/// the control plane of another authority.
#[tokio::test]
async fn others_are_not_believed() {
    let Some(envoy) = envoy_binary() else { return };
    let authority = Authority::new("a");
    let other = Authority::new("b");
    let impostors = [
        // An Envoy of the same instance.
        authority.leaf(common::IDENTITY, 1),
        authority.leaf(
            "spiffe://test.local/ns/team-a/instance/other/controlplane",
            1,
        ),
        authority.leaf(
            "spiffe://test.local/ns/team-b/instance/default/controlplane",
            1,
        ),
        authority.leaf(
            "spiffe://evil.local/ns/team-a/instance/default/controlplane",
            1,
        ),
        authority.leaf(&format!("{CONTROL_PLANE}/"), 1),
        other.leaf(CONTROL_PLANE, 1),
    ];
    let root = directory();
    let mut settings = settings(envoy, root.path());
    let leaf = authority.leaf(common::IDENTITY, 2);
    write(&settings.tls_dir, &leaf, &authority.pem);
    let mut server = Server::start(server_config(&authority, &impostors[0])).await;
    settings.xds = server.address.to_string().parse().unwrap();
    let _supervisor = common::start(&settings).await.unwrap();
    for (index, impostor) in impostors.iter().enumerate() {
        let config = server_config(&authority, impostor);
        match server.next_with(&config).await {
            Handshake::Failed(error) => assert!(error.contains("alert"), "{error}"),
            Handshake::Done { .. } => unreachable!("impostor {index} was believed"),
        }
    }
    let real = authority.leaf(CONTROL_PLANE, 3);
    server.config.send_replace(server_config(&authority, &real));
    server.shown(&leaf.certificate).await;
}

/// A mounted Secret: files are links into `..data`, itself a link that is exchanged by a rename.
#[tokio::test]
async fn a_rotated_secret_is_taken_up() {
    let Some(envoy) = envoy_binary() else { return };
    let old = Authority::new("old");
    let new = Authority::new("new");
    let both = format!("{}{}", old.pem, new.pem);
    let root = directory();
    let mut settings = settings(envoy, root.path());
    settings.tls_dir = root.path().join("secret");
    std::fs::create_dir(&settings.tls_dir).unwrap();
    let mount = |version: &str, leaf: &Leaf, authority: &str| {
        let at = |name: &str| settings.tls_dir.join(name);
        write(&at(version), leaf, authority);
        symlink(version, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    let first = old.leaf(common::IDENTITY, 1);
    mount("..1", &first, &old.pem);
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        symlink(Path::new("..data").join(name), settings.tls_dir.join(name)).unwrap();
    }
    let server_old = old.leaf(CONTROL_PLANE, 2);
    let mut server = Server::start(server_config(&old, &server_old)).await;
    let mut settings = settings.clone();
    settings.xds = server.address.to_string().parse().unwrap();
    let supervisor = common::start(&settings).await.unwrap();
    let pid = supervisor.envoy_pid();
    server.shown(&first.certificate).await;

    // A new certificate, and both authorities.
    let second = old.leaf(common::IDENTITY, 3);
    mount("..2", &second, &both);
    server.shown(&second.certificate).await;

    // Then the server's, and ours, are the new authority's.
    let third = new.leaf(common::IDENTITY, 4);
    mount("..3", &third, &both);
    let config = server_config(&new, &new.leaf(CONTROL_PLANE, 5));
    server.config.send_replace(config);
    server.shown(&third.certificate).await;
    assert_eq!(supervisor.envoy_pid(), pid);
}

/// Files that are no certificates at first cost nothing but time.
#[tokio::test]
async fn bad_files_are_mended_without_a_restart() {
    let Some(envoy) = envoy_binary() else { return };
    let authority = Authority::new("a");
    let config = server_config(&authority, &authority.leaf(CONTROL_PLANE, 1));
    let mut server = Server::start(config).await;
    let root = directory();
    let mut settings = settings(envoy, root.path());
    settings.xds = server.address.to_string().parse().unwrap();
    let leaf = authority.leaf(common::IDENTITY, 2);
    write(&settings.tls_dir, &leaf, "junk");
    let supervisor = common::start(&settings).await.unwrap();
    common::eventually("a refusal", || async {
        let name = "sds.xds-validation.update_rejected";
        (common::stat(&supervisor, name).await? >= 1).then_some(())
    })
    .await;
    // With nobody to believe it connects, and hangs up before it says anything.
    match server.next().await {
        Handshake::Failed(error) => assert!(error.contains("eof"), "{error}"),
        Handshake::Done { .. } => unreachable!("an unverified server was believed"),
    }
    common::put(&settings.tls_dir.join("ca.crt"), authority.pem.as_bytes());
    server.shown(&leaf.certificate).await;
}
