//! A real Envoy, a backend and a client, on loopback and in a folder of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::pki::{Ca, Signed};

/// `POSTERN_ENVOY`, else the place of unpacked test tools, else the `PATH`.
pub fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("POSTERN_ENVOY") {
        return Some(path.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let unpacked = (cache.or_else(home)?).join("postern/envoy/1.40.0/envoy");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path).map(|dir| dir.join("envoy"));
    std::iter::once(unpacked)
        .chain(others)
        .find(|file| file.is_file())
}

/// A port of loopback that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A running Envoy; ends with this.
pub struct Envoy {
    process: Child,
    folder: tempfile::TempDir,
}

impl Envoy {
    /// An Envoy with nothing but a bootstrap that leads to this control plane.
    pub fn start(binary: &Path, ca: &Ca, client: &Signed, control_plane: SocketAddr) -> Envoy {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let (ca, cert) = (file("ca.pem", &ca.pem()), file("cert.pem", &client.cert));
        let key = file("key.pem", &client.key);
        let bootstrap = BOOTSTRAP
            .replace(
                "@ADMIN@",
                &folder.path().join("admin").display().to_string(),
            )
            .replace("@PORT@", &control_plane.port().to_string())
            .replace("@CA@", &ca)
            .replace("@CERT@", &cert)
            .replace("@KEY@", &key);
        let bootstrap = file("bootstrap.yaml", &bootstrap);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(binary)
            .args([
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "-l",
                "info",
                "-c",
            ])
            .arg(bootstrap)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Envoy { process, folder }
    }

    /// What the admin interface says.
    pub fn admin(&self, path: &str) -> Option<String> {
        let mut socket = UnixStream::connect(self.folder.path().join("admin")).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// The values of all statistics whose name ends so.
    pub fn stats(&self, suffix: &str) -> Vec<(String, u64)> {
        let answer = self.admin(&format!("/stats?filter={suffix}$")).unwrap();
        let lines = answer.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(name, _)| name.ends_with(suffix))
            .map(|(name, value)| (name.to_owned(), value.trim().parse().unwrap()))
            .collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Status and body of a request for a path, on a connection of its own.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).ok()?;
    // Not to the end: Envoy closes late after an answer of its own.
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((status, body)) = complete(&answer) {
            return Some((status, body));
        }
        match socket.read(&mut buffer) {
            Ok(count @ 1..) => answer.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}

fn complete(answer: &[u8]) -> Option<(u16, String)> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut lengths = head
        .lines()
        .filter_map(|line| line.strip_prefix("content-length: "));
    let length: usize = lengths.next()?.parse().ok()?;
    (body.len() == length).then(|| (status, body.to_owned()))
}

/// Tries until something is there, and says how long that took.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return (found, start.elapsed());
        }
        assert!(start.elapsed() < Duration::from_secs(30), "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A backend that answers every request with its name, in a header too, as an answer to HEAD has no
/// body. Does not look at the bodies of requests. Ends with the process.
pub fn backend(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            std::thread::spawn(move || answer(socket.unwrap(), name));
        }
    });
    port
}

fn answer(mut socket: TcpStream, name: &str) {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        read.extend_from_slice(&buffer[..count]);
        if read.ends_with(b"\r\n\r\n") {
            let length = name.len();
            let body = if read.starts_with(b"HEAD ") { "" } else { name };
            read.clear();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            if socket.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

const BOOTSTRAP: &str = r#"
node: {id: any, cluster: any}
admin: {address: {pipe: {path: "@ADMIN@"}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: control-plane}}]
  cds_config: {ads: {}, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: control-plane
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: control-plane
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: @PORT@}}}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context:
          tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
          tls_certificates:
          - certificate_chain: {filename: "@CERT@"}
            private_key: {filename: "@KEY@"}
          validation_context:
            trusted_ca: {filename: "@CA@"}
            match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: localhost}}]
"#;
