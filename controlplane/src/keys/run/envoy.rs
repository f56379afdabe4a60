//! A real Envoy with the files of a directory that is renewed under it: authorities and
//! certificates of seconds, and no connection fails.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::keys::store::DirectoryStore;
use crate::keys::testing::subject;

/// An authority lives 20 s and has a successor after 6 s, a certificate 6 s and 2 s.
const QUICK: Lifetimes = Lifetimes {
    authority: Duration::from_secs(20),
    leaf: Duration::from_secs(6),
    renew_percent: 30,
    overlap: Duration::from_secs(2),
    backdate: Duration::from_secs(60),
    lag: Duration::ZERO,
    recheck: SECOND,
};
/// Long enough for one authority to follow another and the first to be forgotten.
const WATCHED: Duration = Duration::from_secs(13);

fn envoy() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(Path::new(&home).join(".cache"))
        });
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::var_os("POSTERN_ENVOY")
        .map(PathBuf::from)
        .into_iter()
        .chain(cache.map(|cache| cache.join("postern/envoy/1.40.0/envoy")))
        .chain(std::env::split_paths(&search).map(|directory| directory.join("envoy")))
        .find(|path| path.is_file())
}

fn secret(name: &str, kind: &str, value: &Value) -> String {
    let type_url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    json!({"resources": [{"@type": type_url, "name": name, kind: value}]}).to_string()
}

fn bootstrap(home: &Path, tls: &Path, port: u16) -> Value {
    let file = |name: &str| json!({"filename": tls.join(name)});
    let watched = json!({"path": tls});
    let certificate = json!({"certificate_chain": file("tls.crt"), "private_key": file("tls.key"),
        "watched_directory": watched});
    let exact = json!({"exact": subject().control_plane_uri()});
    let validation = json!({"trusted_ca": file("ca.crt"), "watched_directory": watched,
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": exact}]});
    let write = |name: &str, text: String| std::fs::write(home.join(name), text).unwrap();
    write(
        "certificate.json",
        secret("certificate", "tls_certificate", &certificate),
    );
    write(
        "validation.json",
        secret("validation", "validation_context", &validation),
    );
    let sds = |name: &str| {
        let path = home.join(format!("{name}.json"));
        json!({"name": name, "sds_config": {"resource_api_version": "V3",
            "path_config_source": {"path": path}}})
    };
    let pipe = |name: &str| json!({"pipe": {"path": home.join(name)}});
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": pipe("admin.sock")},
        "static_resources": {
            "listeners": [{"name": "in", "address": pipe("in.sock"), "filter_chains": [{"filters": [{
                "name": "tcp",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "in", "cluster": "xds", "max_connect_attempts": 1}}]}]}],
            "clusters": [{"name": "xds", "type": "STATIC", "connect_timeout": "5s",
                "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": address}}]}]},
                "transport_socket": {"name": "tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "common_tls_context": {
                        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3",
                            "tls_maximum_protocol_version": "TLSv1_3"},
                        "alpn_protocols": ["h2"],
                        "tls_certificate_sds_secret_configs": [sds("certificate")],
                        "validation_context_sds_secret_config": sds("validation")}}}}]
        }
    })
}

/// What clients showed, and handshakes that failed.
#[derive(Default)]
struct Seen {
    certificates: BTreeSet<Vec<u8>>,
    failures: Vec<String>,
}

/// Gives back the first bytes of each connection.
async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    seen: Arc<Mutex<Seen>>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(tls.borrow().clone());
        let seen = seen.clone();
        tokio::spawn(async move {
            match acceptor.accept(stream).await {
                Ok(mut stream) => {
                    let certificates = stream.get_ref().1.peer_certificates().unwrap();
                    let certificate = certificates[0].to_vec();
                    seen.lock().unwrap().certificates.insert(certificate);
                    let mut bytes = [0; 4];
                    if stream.read_exact(&mut bytes).await.is_ok() {
                        let _ = stream.write_all(&bytes).await;
                        let _ = stream.shutdown().await;
                    }
                }
                Err(error) => seen.lock().unwrap().failures.push(error.to_string()),
            }
        });
    }
}

async fn ping(home: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(home.join("in.sock")).await?;
    stream.write_all(b"ping").await?;
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await?;
    assert_eq!(&bytes, b"ping");
    Ok(())
}

async fn stats(home: &Path) -> Vec<(String, u64)> {
    let mut stream = UnixStream::connect(home.join("admin.sock")).await.unwrap();
    stream
        .write_all(b"GET /stats HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn start(program: &Path, home: &Path, config: &Value) -> Child {
    let path = home.join("bootstrap.json");
    std::fs::write(&path, config.to_string()).unwrap();
    Command::new(program)
        .args([
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "--log-level",
            "warn",
            "-c",
        ])
        .arg(&path)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn an_envoy_keeps_talking_while_authorities_change() {
    let Some(program) = envoy() else {
        println!("not run: no Envoy binary");
        return;
    };
    assert_eq!(QUICK.check(), Ok(()));
    let home = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(home.path().join("keys"));
    let (_, subject) = watch::channel(Arc::new(subject()));
    let (_, leader) = watch::channel(true);
    let mut keeper = Keeper::new(store.clone(), SystemClock, QUICK, subject, leader);
    let tls = keeper.ready().await;
    let public = || std::fs::read_to_string(home.path().join("keys/public/ca.crt")).unwrap();
    let first = public();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let serving = tokio::spawn(serve(listener, tls, seen.clone()));
    let keeping = tokio::spawn(keeper.run());

    let config = bootstrap(home.path(), &store.path(&Part::Envoy("fast".into())), port);
    let mut envoy = start(&program, home.path(), &config);
    let begin = Instant::now();
    // Envoy says nothing when it has begun.
    while ping(home.path()).await.is_err() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "Envoy does not begin"
        );
        let ended = timeout(Duration::from_millis(50), envoy.wait()).await;
        assert!(ended.is_err(), "{:?}", ended.map(|e| e.map(|e| e.signal())));
    }
    let begin = Instant::now();
    let mut good = 0;
    while begin.elapsed() < WATCHED {
        let answer = timeout(Duration::from_secs(5), ping(home.path())).await;
        let after = begin.elapsed();
        answer
            .unwrap()
            .unwrap_or_else(|e| panic!("after {good}, {after:?}: {e}"));
        good += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let last = public();
    assert!(
        !last.contains(&first),
        "another authority, and the first is forgotten"
    );
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen.failures, Vec::<String>::new());
    assert!(seen.certificates.len() >= 5, "{}", seen.certificates.len());
    let stats = stats(home.path()).await;
    let value = |name: &str| {
        stats
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| *value)
    };
    let handshakes = value("cluster.xds.ssl.handshake").unwrap();
    println!(
        "{good} pings, {handshakes} handshakes, {} certificates",
        seen.certificates.len()
    );
    assert!(handshakes >= good && good > 50);
    for (name, value) in stats {
        let bad = [
            "rejected",
            "update_failure",
            "key_rotation_failed",
            "fail_verify",
            "ssl.connection_error",
            "upstream_cx_connect_fail",
            "fail_no_cert",
        ];
        assert!(
            value == 0 || !bad.iter().any(|bad| name.contains(bad)),
            "{name}: {value}"
        );
    }
    keeping.abort();
    serving.abort();
}
