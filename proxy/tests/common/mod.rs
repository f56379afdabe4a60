//! A real Envoy that takes its configuration from files.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests; each uses a part"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_proxy::bootstrap::ConfigSource;
use postern_proxy::drain::Times;
use postern_proxy::envoy::{self, EnvoyLogLevel, Launch, LogFormat};
use postern_proxy::readiness::Phase;
use postern_proxy::supervisor::SupervisorError;
use postern_proxy::{Prepared, Settings, Supervisor};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How long anything may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub const IDENTITY: &str = "spiffe://test.local/ns/team-a/instance/default/shard/main";

/// The binary, by the rule of all tests; says so where there is none.
pub fn envoy_binary() -> Option<PathBuf> {
    let found = std::env::var_os("POSTERN_ENVOY")
        .map(PathBuf::from)
        .or_else(envoy::find);
    if found.is_none() {
        println!("not run: no Envoy binary");
    }
    found
}

/// A directory for one Envoy. Short, as it holds a socket.
pub fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("pp").tempdir().unwrap()
}

/// Replaces a file as Envoy wants to see it: by a move.
pub fn put(path: &Path, content: &[u8]) {
    let draft = path.with_extension("new");
    std::fs::write(&draft, content).unwrap();
    std::fs::rename(&draft, path).unwrap();
}

/// Writes a certificate of its own authority: the files are there, nobody believes them.
pub fn some_tls(directory: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.test".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::create_dir_all(directory).unwrap();
    put(&directory.join("tls.crt"), certificate.pem().as_bytes());
    put(&directory.join("ca.crt"), certificate.pem().as_bytes());
    put(&directory.join("tls.key"), key.serialize_pem().as_bytes());
}

pub fn settings(envoy: PathBuf, root: &Path) -> Settings {
    some_tls(&root.join("tls"));
    Settings {
        identity: IDENTITY.parse().unwrap(),
        node_id: "test".to_owned(),
        // Nobody listens on the discard port.
        xds: "127.0.0.1:9".parse().unwrap(),
        xds_server_name: None,
        tls_dir: root.join("tls"),
        state_dir: root.join("state"),
        readiness: "127.0.0.1:0".parse().unwrap(),
        metrics: "127.0.0.1:0".parse().unwrap(),
        drain: Times {
            min: Duration::ZERO,
            max: DEADLINE,
            grace: Duration::from_secs(5),
        },
        concurrency: 1,
        envoy,
        max_heap: Some(512 << 20),
        max_connections: 100,
        log_format: LogFormat::Json,
        envoy_log_level: EnvoyLogLevel::Error,
        launch: Launch::Direct,
    }
}

/// The files that stand in for the control plane.
pub struct Files {
    root: PathBuf,
}

impl Files {
    pub fn new(root: &Path) -> Self {
        let files = Self {
            root: root.to_owned(),
        };
        files.resources("cds", &[]);
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.json"))
    }

    pub fn resources(&self, name: &str, resources: &[Value]) {
        let response = json!({"resources": resources});
        put(&self.path(name), response.to_string().as_bytes());
    }

    /// One listener on any free port, whose routes are in the file `rds`.
    pub fn listener(&self) {
        let source = json!({
            "path_config_source": {"path": self.path("rds")},
            "resource_api_version": "V3",
        });
        self.resources("lds", &[listener("one", &source)]);
    }

    /// A table that answers `body`.
    pub fn routes(&self, body: &str) {
        self.resources("rds", &[table(&["*"], body)]);
    }

    /// A table that Envoy refuses: one domain twice.
    pub fn bad_routes(&self) {
        self.resources("rds", &[table(&["a", "a"], "bad")]);
    }

    pub async fn start(&self, settings: &Settings) -> Supervisor {
        Prepared::with(settings, |bootstrap| {
            bootstrap.dynamic_resources.ads_config = None;
            bootstrap.dynamic_resources.lds_config = ConfigSource::file(&self.path("lds"));
            bootstrap.dynamic_resources.cds_config = ConfigSource::file(&self.path("cds"));
        })
        .await
        .unwrap()
        .start()
        .unwrap()
    }
}

/// An Envoy that does not wait for its control plane's port.
pub async fn start(settings: &Settings) -> Result<Supervisor, SupervisorError> {
    Prepared::new(settings).await?.start()
}

pub fn table(domains: &[&str], body: &str) -> Value {
    let hosts: Vec<Value> = domains
        .iter()
        .enumerate()
        .map(|(index, domain)| {
            json!({
                "name": format!("host-{index}"),
                "domains": [domain],
                "routes": [{
                    "match": {"prefix": "/"},
                    "direct_response": {"status": 200, "body": {"inline_string": body}},
                }],
            })
        })
        .collect();
    json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "table",
        "virtual_hosts": hosts,
    })
}

pub fn listener(name: &str, routes_from: &Value) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "rds": {"route_config_name": "table", "config_source": routes_from},
                "http_filters": [{
                    "name": "router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }]}],
    })
}

/// Waits for a phase.
pub async fn phase(supervisor: &Supervisor, wanted: Phase) {
    let mut phases: watch::Receiver<Phase> = supervisor.phase();
    let seen = tokio::time::timeout(DEADLINE, phases.wait_for(|p| *p == wanted))
        .await
        .map(|_| ());
    assert!(
        seen.is_ok(),
        "{:?}, not {wanted:?}",
        *supervisor.phase().borrow()
    );
}

/// Waits until `probe` gives something; for what no event tells.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, probe: impl Fn() -> F) -> T {
    let all = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, all)
        .await
        .unwrap_or_else(|_| unreachable!("not in time: {what}"))
}

/// The address of the only listener.
pub async fn listener_address(supervisor: &Supervisor) -> SocketAddr {
    let admin = supervisor.admin().clone();
    eventually("a listener", || async {
        let text = admin.get("/listeners").await.ok()?;
        let (_, address) = text.lines().next()?.split_once("::")?;
        address.parse::<SocketAddr>().ok().filter(|a| a.port() != 0)
    })
    .await
}

/// One request on a connection of its own: the status line, and all of it.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer
        .split_whitespace()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    (status, answer)
}

/// Sends one request on a connection that stays open; the answer, which must end in `body`.
pub async fn exchange(stream: &mut TcpStream, body: &str) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(body.as_bytes()) {
        answer.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

/// The value of one statistic.
pub async fn stat(supervisor: &Supervisor, name: &str) -> Option<u64> {
    let text = supervisor.admin().get("/stats").await.ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
}
