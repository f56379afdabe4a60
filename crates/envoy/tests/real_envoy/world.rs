//! An Envoy with its configuration, a backend and a client, on a loopback address of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use postern_envoy::{Encoder, Kind, Options, Resources};
use postern_model::{Proxy, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};

use crate::ads::Ads;
use crate::fixtures::{entry, host, listener, path, put_listener, put_table, status, table};

/// Where the tests' own listeners may be.
pub const PORT: u16 = 10080;
/// A listener that shows what Envoy's worker has seen.
const MARKER_PORT: u16 = 10001;
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The Envoy binary, or nothing: then tests say that they did not run.
fn binary() -> Option<PathBuf> {
    let given = std::env::var_os("POSTERN_ENVOY").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cached = (std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from))
        .or_else(home)
        .map(|cache| cache.join("postern/envoy/1.40.0/envoy"));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    given
        .into_iter()
        .chain(cached)
        .chain(std::env::split_paths(&paths).map(|dir| dir.join("envoy")))
        .find(|path| path.is_file())
}

/// A loopback address that no other test has: of this process by the counter, of others by the id.
fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    IpAddr::from([127, 64 | (high & 63), low, last])
}

pub struct World {
    envoy: Child,
    ads: Ads,
    encoder: Encoder,
    resources: Resources,
    generation: AtomicU32,
    directory: tempfile::TempDir,
    pub address: IpAddr,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
    }
}

impl World {
    /// Starts an Envoy that gets its configuration from here. `None`: there is no binary.
    pub async fn start() -> Option<World> {
        let Some(binary) = binary() else {
            eprintln!("not run: no Envoy binary");
            return None;
        };
        let address = own_address();
        let (ads, ads_address) = Ads::start(SocketAddr::new(address, 0)).await;
        let directory = tempfile::tempdir().unwrap();
        let bootstrap = directory.path().join("bootstrap.json");
        std::fs::write(&bootstrap, bootstrap_json(ads_address, directory.path())).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let access_log = std::fs::File::create(directory.path().join("access")).unwrap();
        let envoy = Command::new(binary)
            .arg("-c")
            .arg(&bootstrap)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--file-flush-interval-msec",
                "50",
                "-l",
                "warning",
            ])
            .stdin(Stdio::null())
            .stdout(access_log)
            .stderr(log)
            .spawn()
            .unwrap();
        Some(World {
            envoy,
            ads,
            encoder: Encoder::new(Options {
                bind: address,
                allow_loopback: true,
            }),
            resources: Resources::default(),
            generation: AtomicU32::new(0),
            directory,
            address,
        })
    }

    /// The line of the access log that holds this text.
    pub async fn access_line(&self, text: &str) -> serde_json::Value {
        let path = self.directory.path().join("access");
        let found = async {
            loop {
                let log = std::fs::read_to_string(&path).unwrap();
                // Envoy may be in the midst of a line.
                let whole = log.rfind('\n').map_or("", |end| &log[..end]);
                if let Some(line) = whole.lines().find(|line| line.contains(text)) {
                    return serde_json::from_str(line).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(line) => line,
            Err(_) => panic!("no line of the access log holds {text:?}"),
        }
    }

    /// Gives Envoy a state, and waits until its worker serves it. Fails if Envoy refuses any of it.
    pub async fn apply(&mut self, proxy: &Proxy) {
        self.try_apply(proxy).await;
        let refused = self.ads.seen().borrow().refused.clone();
        assert_eq!(refused, [""; 0], "Envoy refused it");
    }

    /// Gives Envoy a state of which it refuses something, and says what.
    pub async fn apply_refused(&mut self, proxy: &Proxy) -> Vec<String> {
        self.try_apply(proxy).await;
        let refused = self.ads.seen().borrow().refused.clone();
        assert_ne!(refused, [""; 0], "Envoy took it all");
        refused
    }

    async fn try_apply(&mut self, proxy: &Proxy) {
        let mut proxy = proxy.clone();
        self.send(&mut proxy).await;
        // The worker takes updates in the order in which they were made: when it shows the newest
        // marker, it has everything that came before.
        let generation = 1 + self.generation.fetch_add(1, Ordering::Relaxed);
        self.send(&mut proxy).await;
        let marker = format!("/{generation}");
        let at = SocketAddr::new(self.address, MARKER_PORT);
        let shown = async {
            loop {
                let request =
                    format!("GET {marker} HTTP/1.1\r\nhost: marker\r\nconnection: close\r\n\r\n");
                let response = raw(at, request.as_bytes()).await;
                if response.is_ok_and(|response| response.starts_with("HTTP/1.1 204")) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, shown).await.is_err() {
            panic!("the marker never showed\n{}", self.log());
        }
    }

    async fn send(&mut self, proxy: &mut Proxy) {
        let path_now = format!("/{}", self.generation.load(Ordering::Relaxed));
        let marker = host(
            "marker",
            vec![entry("marker", path(&path_now), status(204))],
        );
        put_table(proxy, table("marker", vec![marker]));
        put_listener(
            proxy,
            listener("marker", MARKER_PORT, "marker", Trust::Nothing),
        );
        self.resources = self.encoder.encode(proxy);
        self.ads.set(self.resources.clone());
        let mut seen = self.ads.seen();
        let wanted = &self.resources;
        let settled = seen.wait_for(|seen| seen.settled(wanted));
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            panic!(
                "Envoy has not taken it all: {:#?} of {:#?}\n{}",
                self.ads.seen().borrow(),
                self.resources,
                self.log()
            );
        }
    }

    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Envoy's own counters of refusals and failures: all 0, and there are some.
    pub async fn assert_nothing_refused(&self) {
        let stats = self.admin("/stats?filter=update_(rejected|failure)").await;
        let counters: Vec<&str> = stats
            .lines()
            .filter(|line| line.contains(".update_"))
            .collect();
        assert!(counters.len() >= 4, "{stats}");
        for counter in counters {
            assert!(counter.ends_with(": 0"), "{counter}");
        }
        for kind in Kind::ALL {
            assert!(
                !self.resources.of(kind).is_empty() || kind == Kind::Secret,
                "{kind:?}"
            );
        }
    }

    pub async fn admin(&self, path: &str) -> String {
        let mut socket = UnixStream::connect(self.directory.path().join("admin"))
            .await
            .unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        socket.read_to_string(&mut response).await.unwrap();
        response
    }

    /// The tests' listener.
    pub fn listener(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }

    /// One request on a connection of its own: `GET path`, with `Host` and more headers.
    pub async fn get(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", host, path, headers).await
    }

    pub async fn request(
        &self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        self.raw(request.as_bytes()).await
    }

    /// These bytes, and the answer's.
    pub async fn raw(&self, bytes: &[u8]) -> Answer {
        Answer::parse(&raw(self.listener(), bytes).await.unwrap())
    }
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Answer {
            status: status.unwrap_or(0),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// The value of a response header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }

    /// Which backend answered.
    pub fn backend(&self) -> &str {
        self.header("x-backend").unwrap_or("none")
    }

    /// The values of a header of the request as the backend saw it.
    pub fn seen(&self, name: &str) -> Vec<String> {
        let lines = self.body.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(seen, _)| seen.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    }
}

/// Sends bytes on a new connection, and reads until the other side closes it.
pub async fn raw(to: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
    raw_from(to.ip(), to, bytes).await
}

/// The same, from a chosen address.
pub async fn raw_from(from: IpAddr, to: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(bytes).await?;
    let mut response = Vec::new();
    let read = async {
        while !complete(&response) && stream.read_buf(&mut response).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(())) => {}
        // A reset after the answer is an end, too.
        Ok(Err(_)) if !response.is_empty() => {}
        Ok(Err(error)) => return Err(error),
        Err(_) => panic!("no end of {:?}", String::from_utf8_lossy(&response)),
    }
    Ok(String::from_utf8_lossy(&response).into_owned())
}

/// Whether a response is there with all of its body. (Envoy waits a second for the client to close
/// first, so waiting for the end of the connection would make the tests slow.)
fn complete(response: &[u8]) -> bool {
    let text = String::from_utf8_lossy(response).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    if let Some(length) = length {
        return body.len() >= length.parse().unwrap();
    }
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    head.starts_with("http/1.1 204") || head.starts_with("http/1.1 304")
}

/// A backend that says who it is, and gives back the head of each request as it came. It closes
/// after one, and does not look at bodies.
pub async fn backend(name: &'static str, address: IpAddr) -> SocketAddr {
    let socket = TcpListener::bind(SocketAddr::new(address, 0))
        .await
        .unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = socket.accept().await else {
                return;
            };
            tokio::spawn(answer(name, stream));
        }
    });
    at
}

async fn answer(name: &'static str, mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let response = format!(
        "HTTP/1.1 200 OK\r\nx-backend: {name}\r\nserver: secret/1.0\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{head}",
        head.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

fn bootstrap_json(ads: SocketAddr, directory: &std::path::Path) -> String {
    let ads_source = serde_json::json!({
        "resource_api_version": "V3", "initial_fetch_timeout": "0s", "ads": {}
    });
    let http2 = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} }
    });
    serde_json::json!({
        "node": { "id": "test", "cluster": "test" },
        "admin": { "address": { "pipe": { "path": directory.join("admin") } } },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds" } }]
            },
            "lds_config": ads_source,
            "cds_config": ads_source
        },
        "static_resources": { "clusters": [{
            "name": "xds",
            "type": "STATIC",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
            },
            "load_assignment": {
                "cluster_name": "xds",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": {
                    "socket_address": { "address": ads.ip(), "port_value": ads.port() }
                }}}]}]
            }
        }]}
    })
    .to_string()
}
