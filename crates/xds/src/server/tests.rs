//! Who gets in, who does not, and what either can do to the server.

mod bounds;
#[path = "../../tests/pki/mod.rs"]
mod pki;

use std::collections::BTreeMap;
use std::sync::Mutex;

use discovery::DeltaDiscoveryRequest;
use discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use postern_envoy::{Kind, Resource};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status, Streaming};

use super::*;
use pki::{Ca, Signed};

const GOOD: &str = "spiffe://postern.example/ns/team-a/instance/web/shard/default";
const UNKNOWN: &str = "spiffe://postern.example/ns/team-b/instance/web/shard/default";
const ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService";

/// Knows one identity and tells the test what it hears.
struct OneEnvoy {
    identity: Identity,
    resources: Mutex<Option<watch::Receiver<Arc<Resources>>>>,
    heard: mpsc::UnboundedSender<String>,
    opened: Mutex<Vec<StreamId>>,
}

impl Directory for OneEnvoy {
    fn resources(&self, identity: &Identity) -> Option<watch::Receiver<Arc<Resources>>> {
        let resources = self.resources.lock().unwrap();
        resources.clone().filter(|_| *identity == self.identity)
    }

    fn opened(&self, identity: &Identity, stream: StreamId, address: IpAddr) {
        assert_eq!(*identity, self.identity);
        assert!(address.is_loopback());
        self.opened.lock().unwrap().push(stream);
    }

    fn event(&self, identity: &Identity, stream: StreamId, event: Event) {
        assert_eq!(*identity, self.identity);
        let what = match event {
            Event::Acknowledged { kind, names, .. } => format!("ack {kind:?} {names:?}"),
            Event::Refused {
                kind,
                names,
                detail,
                ..
            } => format!("nack {kind:?} {names:?} {detail}"),
        };
        let _ = self.heard.send(format!("{} {what}", stream.0));
    }

    fn closed(&self, identity: &Identity, stream: StreamId) {
        assert_eq!(*identity, self.identity);
        let _ = self.heard.send(format!("{} closed", stream.0));
    }
}

struct Rig {
    ca: Ca,
    address: std::net::SocketAddr,
    tls: watch::Sender<Arc<ServerConfig>>,
    resources: watch::Sender<Arc<Resources>>,
    directory: Arc<OneEnvoy>,
    heard: mpsc::UnboundedReceiver<String>,
    metrics: Arc<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<(), ServeError>>,
}

fn clusters(lines: &[(&str, u64, usize)]) -> Arc<Resources> {
    let mut resources = Resources::default();
    for (name, version, size) in lines {
        let resource = Resource {
            version: *version,
            body: vec![0; *size].into(),
            needs: Arc::from([]),
        };
        resources
            .of_mut(Kind::Cluster)
            .insert((*name).into(), resource);
    }
    Arc::new(resources)
}

impl Rig {
    async fn new() -> Rig {
        Rig::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Rig {
        let ca = Ca::new("ca");
        let Signed { cert, key } = ca.server();
        let config = server_config(&[ca.pem()], cert.as_bytes(), key.as_bytes()).unwrap();
        let (tls, newest) = watch::channel(config);
        let (resources, newest_resources) = watch::channel(clusters(&[("a", 1, 10)]));
        let (heard, hears) = mpsc::unbounded_channel();
        let directory = Arc::new(OneEnvoy {
            identity: GOOD.parse().unwrap(),
            resources: Mutex::new(Some(newest_resources)),
            heard,
            opened: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::default());
        let options = Options {
            limits,
            metrics: metrics.clone(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let served = serve(listener, newest, directory.clone(), options, shutdown);
        Rig {
            ca,
            address,
            tls,
            resources,
            directory,
            heard: hears,
            metrics,
            stop: Some(stop),
            server: tokio::spawn(served),
        }
    }

    async fn heard(&mut self) -> String {
        let heard = tokio::time::timeout(Duration::from_secs(10), self.heard.recv());
        heard.await.expect("nothing heard").unwrap()
    }

    async fn channel(&self, signed: &Signed) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.ca.pem()))
            .identity(tonic::transport::Identity::from_pem(
                &signed.cert,
                &signed.key,
            ))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    async fn envoy(&self) -> Envoy {
        let channel = self.channel(&self.ca.client(&[GOOD])).await;
        Envoy::open(channel).await.unwrap()
    }

    fn connector(&self, signed: Option<&Signed>, alpn: &[&[u8]]) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        let pem = self.ca.pem();
        roots
            .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match signed {
            None => config.with_no_client_auth(),
            Some(Signed { cert, key }) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A TLS connection, as far as the client can tell: with TLS 1.3 it learns of a refusal of its
    /// certificate from the first read.
    async fn connect(&self, signed: Option<&Signed>, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let connector = self.connector(signed, alpn);
        connector
            .connect("localhost".try_into().unwrap(), socket)
            .await
            .unwrap()
    }

    /// The status of one request on a fresh connection.
    async fn status(&self, signed: &Signed, method: &str, path: &str) -> Code {
        let io = self.connect(Some(signed), &[b"h2"]).await;
        let io = hyper_util::rt::TokioIo::new(io);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::empty())
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        Status::from_header_map(response.headers())
            .expect("no status")
            .code()
    }

    /// An Envoy of ours is still served.
    async fn assert_alive(&mut self) {
        let mut envoy = self.envoy().await;
        envoy.subscribe(Kind::Cluster).await;
        assert_eq!(
            envoy.next().await.unwrap(),
            [("a".to_owned(), "1".to_owned())]
        );
        drop(envoy);
        while !self.heard().await.ends_with("closed") {}
    }
}

/// A client's end of a delta stream.
struct Envoy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<discovery::DeltaDiscoveryResponse>,
    nonces: BTreeMap<String, String>,
}

impl Envoy {
    async fn open(channel: Channel) -> Result<Envoy, Status> {
        let (requests, outgoing) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let outgoing = ReceiverStream::new(outgoing);
        let responses = client
            .delta_aggregated_resources(outgoing)
            .await?
            .into_inner();
        Ok(Envoy {
            requests,
            responses,
            nonces: BTreeMap::new(),
        })
    }

    async fn subscribe(&self, kind: Kind) {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// Names and versions of the next response.
    async fn next(&mut self) -> Result<Vec<(String, String)>, Status> {
        let message = tokio::time::timeout(Duration::from_secs(10), self.responses.message());
        let response = message.await.expect("no response")?;
        let Some(response) = response else {
            return Err(Status::ok("ended"));
        };
        self.nonces.insert(response.type_url, response.nonce);
        let resources = response.resources.into_iter();
        Ok(resources.map(|r| (r.name, r.version)).collect())
    }

    async fn answer(&self, kind: Kind, error: Option<&str>) {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            response_nonce: self.nonces[kind.type_url()].clone(),
            error_detail: error.map(|message| envoy_types::pb::google::rpc::Status {
                code: 13,
                message: message.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }
}

/// Waits until the server has closed a connection; what it had sent is returned.
async fn closed(io: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut left = Vec::new();
    let end = io.read_to_end(&mut left);
    let end = tokio::time::timeout(Duration::from_secs(10), end).await;
    let _ = end.expect("still open");
    left
}

#[tokio::test]
async fn an_envoy_is_served_and_heard() {
    let mut rig = Rig::new().await;
    let mut envoy = rig.envoy().await;
    envoy.subscribe(Kind::Cluster).await;
    assert_eq!(
        envoy.next().await.unwrap(),
        [("a".to_owned(), "1".to_owned())]
    );
    envoy.answer(Kind::Cluster, None).await;
    assert_eq!(rig.heard().await, r#"1 ack Cluster [("a", 1)]"#);
    assert_eq!(*rig.directory.opened.lock().unwrap(), [StreamId(1)]);
    rig.resources.send_replace(clusters(&[("a", 0x1f, 10)]));
    assert_eq!(
        envoy.next().await.unwrap(),
        [("a".to_owned(), "1f".to_owned())]
    );
    envoy.answer(Kind::Cluster, Some("bad")).await;
    assert_eq!(rig.heard().await, r#"1 nack Cluster [("a", 31)] bad"#);
    assert_eq!(rig.metrics.acknowledged_total(), 1);
    assert_eq!(rig.metrics.refused_total(), 1);
    assert_eq!(rig.metrics.streams(), 1);
    drop(envoy);
    assert_eq!(rig.heard().await, "1 closed");
    assert_eq!(rig.metrics.streams(), 0);
}

/// Node names are no names here.
#[tokio::test]
async fn the_node_in_a_request_means_nothing() {
    let rig = Rig::new().await;
    let mut envoy = rig.envoy().await;
    let node = envoy_types::pb::envoy::config::core::v3::Node {
        id: UNKNOWN.to_owned(),
        cluster: "other".to_owned(),
        ..Default::default()
    };
    let request = DeltaDiscoveryRequest {
        node: Some(node),
        type_url: Kind::Cluster.type_url().to_owned(),
        ..Default::default()
    };
    envoy.requests.send(request).await.unwrap();
    assert_eq!(
        envoy.next().await.unwrap(),
        [("a".to_owned(), "1".to_owned())]
    );
}

#[tokio::test]
async fn whoever_the_directory_does_not_know_is_denied_on_every_path() {
    let mut rig = Rig::new().await;
    let paths = [
        &format!("{ADS}/DeltaAggregatedResources"),
        &format!("{ADS}/StreamAggregatedResources"),
        "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/",
    ];
    let strangers = [
        rig.ca.client(&[UNKNOWN]),
        rig.ca
            .client(&["spiffe://other.example/ns/team-a/instance/web/shard/default"]),
        rig.ca
            .client(&["spiffe://postern.example/ns/team-a/instance/web/shard/canary"]),
        rig.ca
            .client(&["spiffe://postern.example/ns/team-a/sa/default"]),
        rig.ca.client(&[GOOD, UNKNOWN]),
        rig.ca.client(&[]),
    ];
    for stranger in &strangers {
        for path in paths {
            for method in ["POST", "GET"] {
                let code = rig.status(stranger, method, path).await;
                assert_eq!(code, Code::PermissionDenied, "{method} {path}");
            }
        }
        let denied = Envoy::open(rig.channel(stranger).await)
            .await
            .err()
            .unwrap();
        assert_eq!(denied.code(), Code::PermissionDenied);
    }
    assert_eq!(rig.metrics.denied_total(), 6 * (5 * 2 + 1));
    assert_eq!(rig.metrics.streams(), 0);

    let known = rig.ca.client(&[GOOD]);
    for path in &paths[1..] {
        let code = rig.status(&known, "POST", path).await;
        assert_eq!(code, Code::Unimplemented, "{path}");
    }
    rig.assert_alive().await;
}

#[tokio::test]
async fn certificates_of_others_and_none_end_at_the_handshake() {
    let mut rig = Rig::new().await;
    // Named as ours is, so that only the signature differs.
    let other = Ca::new("ca");
    let mut expired = Ca::client_params(&[GOOD]);
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2020, 2, 1);
    let mut early = Ca::client_params(&[GOOD]);
    early.not_before = rcgen::date_time_ymd(4000, 1, 1);
    let mut server = Ca::client_params(&[GOOD]);
    server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let mut authority = Ca::client_params(&[GOOD]);
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let refused = [
        None,
        Some(other.client(&[GOOD])),
        Some(rig.ca.sign(expired)),
        Some(rig.ca.sign(early)),
        Some(rig.ca.sign(server)),
        Some(rig.ca.sign(authority)),
    ];
    let count = refused.len() as u64;
    for (n, signed) in refused.iter().enumerate() {
        let mut io = rig.connect(signed.as_ref(), &[b"h2"]).await;
        let error = io.read_u8().await.expect_err("let in");
        assert!(
            error.to_string().contains("received fatal alert"),
            "{n}: {error}"
        );
    }
    rig.assert_alive().await;
    assert_eq!(rig.metrics.turned_away_total(), count);
    assert_eq!(rig.metrics.denied_total(), 0);
}

#[tokio::test]
async fn junk_and_other_protocols_do_not_stop_the_server() {
    let mut rig = Rig::new().await;
    let mut seed = 1_u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    };
    for size in [0, 1, 5, 100, 20_000] {
        let junk: Vec<u8> = (0..size).map(|_| random()).collect();
        let mut socket = TcpStream::connect(rig.address).await.unwrap();
        // The server may have gone before all is written.
        let _ = socket.write_all(&junk).await;
        let _ = socket.shutdown().await;
        closed(&mut socket).await;
    }
    let mut socket = TcpStream::connect(rig.address).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let answer = closed(&mut socket).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    // HTTP/1 within TLS, with and without saying so.
    let known = rig.ca.client(&[GOOD]);
    let socket = TcpStream::connect(rig.address).await.unwrap();
    let connector = rig.connector(Some(&known), &[b"http/1.1"]);
    let error = connector
        .connect("localhost".try_into().unwrap(), socket)
        .await
        .err();
    assert!(error.is_some_and(|e| e.to_string().contains("alert")));
    let mut io = rig.connect(Some(&known), &[]).await;
    io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let answer = closed(&mut io).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    // Junk within TLS and HTTP/2.
    let mut io = rig.connect(Some(&known), &[b"h2"]).await;
    let junk: Vec<u8> = (0..5000).map(|_| random()).collect();
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let _ = io.write_all(&junk).await;
    closed(&mut io).await;

    // TLS 1.2 has no place here.
    let config =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
    let socket = TcpStream::connect(rig.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let error = connector
        .connect("localhost".try_into().unwrap(), socket)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    rig.assert_alive().await;
}

#[tokio::test]
async fn certificates_and_cas_rotate_under_an_open_stream() {
    let mut rig = Rig::new().await;
    let old = rig.ca.client(&[GOOD]);
    let mut envoy = rig.envoy().await;
    envoy.subscribe(Kind::Cluster).await;
    envoy.next().await.unwrap();
    envoy.answer(Kind::Cluster, None).await;
    assert_eq!(rig.heard().await, r#"1 ack Cluster [("a", 1)]"#);

    // Both CAs, and a certificate of the new one.
    let before = std::mem::replace(&mut rig.ca, Ca::new("next"));
    let Signed { cert, key } = rig.ca.server();
    let both = [before.pem(), rig.ca.pem()];
    let config = server_config(&both, cert.as_bytes(), key.as_bytes()).unwrap();
    rig.tls.send_replace(config);
    let _with_old = Envoy::open(rig.channel(&old).await).await.unwrap();
    let _with_new = rig.envoy().await;

    // The new one alone.
    let config = server_config(&[rig.ca.pem()], cert.as_bytes(), key.as_bytes()).unwrap();
    rig.tls.send_replace(config);
    let mut io = rig.connect(Some(&old), &[b"h2"]).await;
    io.read_u8().await.expect_err("the old CA is let in");
    let _with_new = rig.envoy().await;

    // All the while, the first stream is there.
    rig.resources.send_replace(clusters(&[("a", 2, 10)]));
    assert_eq!(
        envoy.next().await.unwrap(),
        [("a".to_owned(), "2".to_owned())]
    );
    envoy.answer(Kind::Cluster, None).await;
    assert_eq!(rig.heard().await, r#"1 ack Cluster [("a", 2)]"#);
}

#[tokio::test]
async fn a_stream_ends_with_its_certificate() {
    let mut rig = Rig::new().await;
    let mut params = Ca::client_params(&[GOOD]);
    let soon = std::time::SystemTime::now() + Duration::from_secs(3);
    params.not_after = soon.into();
    let signed = rig.ca.sign(params);
    let channel = rig.channel(&signed).await;
    let mut envoy = Envoy::open(channel.clone()).await.unwrap();
    let status = envoy.next().await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(rig.heard().await, "1 closed");
    // And the connection: on it, nobody would ever be known again. A new one is refused by TLS.
    let refused = async {
        while Envoy::open(channel.clone())
            .await
            .is_err_and(|status| status.code() == Code::PermissionDenied)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, refused)
        .await
        .expect("still on the old connection");
}

#[tokio::test]
async fn a_stream_ends_when_its_envoy_is_not_known_any_more() {
    let mut rig = Rig::new().await;
    let mut envoy = rig.envoy().await;
    envoy.subscribe(Kind::Cluster).await;
    envoy.next().await.unwrap();
    rig.directory.resources.lock().unwrap().take();
    rig.resources = watch::channel(Arc::default()).0;
    let status = envoy.next().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(rig.heard().await, "1 closed");
    let channel = rig.channel(&rig.ca.client(&[GOOD])).await;
    let denied = Envoy::open(channel).await.err().unwrap();
    assert_eq!(denied.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn shutdown_tells_envoys_and_ends() {
    let mut rig = Rig::new().await;
    let mut envoy = rig.envoy().await;
    let _silent = TcpStream::connect(rig.address).await.unwrap();
    rig.stop.take();
    assert_eq!(envoy.next().await.unwrap_err().code(), Code::Unavailable);
    drop(envoy);
    assert_eq!(rig.heard().await, "1 closed");
    rig.server.await.unwrap().unwrap();
    assert!(TcpStream::connect(rig.address).await.is_err());
}

#[test]
fn bad_pems_make_no_configuration() {
    let ca = Ca::new("ca");
    let one = ca.server();
    let other = ca.server();
    let make = |ca: &str, cert: &str, key: &str| {
        server_config(&[ca], cert.as_bytes(), key.as_bytes()).map(|_| ())
    };
    let pem = ca.pem();
    assert!(make(&pem, &one.cert, &one.key).is_ok());
    let error = make("", &one.cert, &one.key);
    assert!(matches!(error, Err(ConfigError::Empty("CA"))));
    let error = make(&pem, "", &one.key);
    assert!(matches!(error, Err(ConfigError::Empty("certificate"))));
    let error = make(&pem, &one.cert, &one.cert);
    assert!(matches!(error, Err(ConfigError::Pem("key", _))));
    let error = make(&pem, &one.cert, &other.key);
    assert!(matches!(error, Err(ConfigError::Tls(_))));
}
