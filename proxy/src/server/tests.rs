//! Attacks on the two endpoints, with a stand-in for Envoy's admin interface that keeps what it
//! was asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::Notify;

use super::*;
use crate::readiness::Waiting;

/// Stands in for Envoy: keeps request lines, answers with a body of its own.
struct FakeAdmin {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    /// An answer ends only after this.
    go_on: Arc<Notify>,
    _directory: tempfile::TempDir,
}

impl FakeAdmin {
    /// Answers `size` bytes; with `hold` keeps back the end until told to go on.
    fn start(size: usize, hold: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let go_on = Arc::new(Notify::new());
        let (log, gate) = (Arc::clone(&asked), Arc::clone(&go_on));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (log, gate) = (Arc::clone(&log), Arc::clone(&gate));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    log.lock()
                        .unwrap()
                        .push(head.lines().next().unwrap().to_owned());
                    let begin = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                    stream.write_all(begin.as_bytes()).await.unwrap();
                    if hold {
                        stream.write_all(b"begin\n").await.unwrap();
                        gate.notified().await;
                    }
                    // The reader may have gone: that is what is tested.
                    let _ = stream.write_all(&vec![b'x'; size]).await;
                });
            }
        });
        Self {
            socket,
            asked,
            go_on,
            _directory: directory,
        }
    }

    fn admin(&self) -> Admin {
        Admin::new(self.socket.clone())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn start(endpoint: Endpoint, limits: Limits) -> SocketAddr {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, endpoint, limits));
    address
}

/// Sends bytes, and reads until the server closes.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
    raw(address, request.as_bytes()).await
}

fn readiness(phase: Phase) -> (watch::Sender<Phase>, Endpoint) {
    let sender = watch::Sender::new(phase);
    let endpoint = Endpoint::Readiness(sender.subscribe());
    (sender, endpoint)
}

#[tokio::test]
async fn readiness_follows_the_phase() {
    let (phase, endpoint) = readiness(Phase::Starting(Waiting::Clusters));
    let address = start(endpoint, Limits::READINESS).await;
    let answer = get(address, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.ends_with("waiting for clusters from the control plane\n"),
        "{answer}"
    );
    phase.send_replace(Phase::Ready);
    assert!(get(address, "/ready").await.starts_with("HTTP/1.1 200 "));
    phase.send_replace(Phase::Draining);
    assert!(get(address, "/ready").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn metrics_come_from_one_fixed_path() {
    let fake = FakeAdmin::start(100_000, false);
    let address = start(Endpoint::metrics(fake.admin()), Limits::METRICS).await;
    let answer = get(address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"));
    assert_eq!(
        answer.matches('x').count() - head_of(&answer).matches('x').count(),
        100_000
    );
    assert_eq!(fake.asked(), ["GET /stats/prometheus?usedonly HTTP/1.1"]);
}

fn head_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(head, _)| head)
}

/// CVE-2025-24030 of another gateway: the admin interface reached through the metrics route.
#[tokio::test]
async fn nothing_else_is_answered_and_the_admin_interface_is_not_asked() {
    let fake = FakeAdmin::start(1, false);
    let metrics = start(Endpoint::metrics(fake.admin()), Limits::METRICS).await;
    let (_phase, endpoint) = readiness(Phase::Ready);
    let ready = start(endpoint, Limits::READINESS).await;

    for (address, good, other) in [
        (metrics, "/metrics", "/ready"),
        (ready, "/ready", "/metrics"),
    ] {
        let targets = [
            "/".to_owned(),
            other.to_owned(),
            "/quitquitquit".into(),
            "/config_dump".into(),
            "/stats/prometheus".into(),
            "/stats/prometheus?usedonly".into(),
            format!("{good}/"),
            format!("{good}/.."),
            format!("{good}/../quitquitquit"),
            format!("{good}/..;/quitquitquit"),
            format!("{good}/%2e%2e/quitquitquit"),
            format!("{good}/..%2fquitquitquit"),
            format!("{good}%2f..%2fquitquitquit"),
            format!("{good}%00"),
            format!("{good}%20"),
            format!("{good}?"),
            format!("{good}?x"),
            format!("{good}?filter=.*&format=json"),
            format!("{good};x"),
            format!("{good}\\..\\quitquitquit"),
            format!("/{good}"),
            format!("/.{good}"),
            format!("/x/..{good}"),
            format!("//x{good}"),
            good.to_uppercase(),
            good.replace('e', "%65"),
            format!("http://x{good}"),
            format!("http://127.0.0.1{good}"),
            format!("unix:///admin.sock{good}"),
            "*".into(),
            "admin.sock:80".into(),
        ];
        for target in targets {
            let answer = get(address, &target).await;
            // 404, or 400 where it is no HTTP.
            assert!(
                answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "),
                "{target}: {answer}"
            );
        }
        for method in [
            "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "get", "GETX",
        ] {
            let target = if method == "CONNECT" { "x:80" } else { good };
            let request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n");
            let answer = raw(address, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{method}: {answer}");
        }
        for extra in [
            "content-length: 5\r\n\r\nhello",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "content-length: 0\r\n\r\n",
            "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "upgrade: h2c\r\nconnection: upgrade\r\n\r\n",
            "content-length: 999999999999999999999\r\n\r\n",
        ] {
            let request = format!("GET {good} HTTP/1.1\r\nhost: x\r\n{extra}");
            let answer = raw(address, request.as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "),
                "{extra}: {answer}"
            );
        }
        for junk in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            format!("GET {good}\r\n\r\n"),
            format!("GET {good} HTTP/3.0\r\n\r\n"),
            format!("GET {good} /quitquitquit HTTP/1.1\r\nhost: x\r\n\r\n"),
            "\u{16}\u{3}\u{1}\u{2}".to_owned() + &"\0".repeat(600),
        ] {
            let answer = raw(address, junk.as_bytes()).await;
            assert!(
                answer.is_empty()
                    || answer.starts_with("HTTP/1.1 400 ")
                    || answer.starts_with("HTTP/1.1 404 "),
                "{junk:?}: {answer}"
            );
        }
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
    // And it does answer what it should.
    assert!(get(metrics, "/metrics").await.starts_with("HTTP/1.1 200 "));
    assert!(get(ready, "/ready").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(fake.asked().len(), 1);
}

/// A fragment is no part of a request target; the parser drops it. Nothing of it gets further.
#[tokio::test]
async fn a_fragment_reaches_nothing() {
    let fake = FakeAdmin::start(1, false);
    let address = start(Endpoint::metrics(fake.admin()), Limits::METRICS).await;
    get(address, "/metrics#/../quitquitquit").await;
    get(address, "/#/metrics").await;
    for line in fake.asked() {
        assert_eq!(line, "GET /stats/prometheus?usedonly HTTP/1.1");
    }
}

#[tokio::test]
async fn one_connection_carries_one_request() {
    let fake = FakeAdmin::start(1, false);
    let address = start(Endpoint::metrics(fake.admin()), Limits::METRICS).await;
    let one = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    let two = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = raw(address, format!("{one}{two}").as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn large_heads_are_refused() {
    let (_phase, endpoint) = readiness(Phase::Ready);
    let address = start(endpoint, Limits::READINESS).await;
    let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
    let long = format!("a: {}\r\n", "b".repeat(2 * MAX_HEAD));
    for headers in [many, long] {
        let request = format!("GET /ready HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        let answer = raw(address, request.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let target = format!("/ready{}", "/".repeat(2 * MAX_HEAD));
    assert!(!get(address, &target).await.contains(" 200 "));
    assert!(get(address, "/ready").await.contains(" 200 "));
}

#[tokio::test]
async fn slow_clients_lose_their_connection_and_others_are_served() {
    let (_phase, endpoint) = readiness(Phase::Ready);
    let limits = Limits {
        connections: 2,
        head: Duration::from_millis(100),
        whole: Duration::from_millis(200),
        answer: 256,
    };
    let address = start(endpoint, limits).await;
    // More than there are places, and each says a part of a request.
    let mut slow = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /ready HTT").await.unwrap();
        slow.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(10), get(address, "/ready"))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
    }
}

#[tokio::test]
async fn one_scrape_at_a_time_and_it_streams() {
    let fake = FakeAdmin::start(10, true);
    let address = start(Endpoint::metrics(fake.admin()), Limits::METRICS).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    // The beginning arrives while Envoy has not said the end.
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("begin\n") {
        seen.push(first.read_u8().await.unwrap());
    }
    let second = get(address, "/metrics").await;
    assert!(second.starts_with("HTTP/1.1 503 "), "{second}");
    assert!(second.ends_with("another scrape runs\n"), "{second}");
    assert_eq!(fake.asked().len(), 1);

    fake.go_on.notify_one();
    first.read_to_end(&mut seen).await.unwrap();
    assert!(String::from_utf8_lossy(&seen).contains("xxxxxxxxxx"));
    fake.go_on.notify_one();
    let third = get(address, "/metrics").await;
    assert!(third.starts_with("HTTP/1.1 200 "), "{third}");
}

#[tokio::test]
async fn a_scraper_that_leaves_gives_its_turn_back() {
    let fake = FakeAdmin::start(10, true);
    let limits = Limits {
        whole: Duration::from_millis(300),
        ..Limits::METRICS
    };
    let address = start(Endpoint::metrics(fake.admin()), limits).await;
    // Envoy never ends its answer: the connection's time is what ends it.
    let answer = get(address, "/metrics").await;
    assert!(answer.contains("begin\n"), "{answer}");
    assert!(
        !answer.ends_with("0\r\n\r\n"),
        "it must not look whole: {answer}"
    );
    fake.go_on.notify_one();
    let answer = get(address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn too_large_an_answer_breaks_off() {
    let fake = FakeAdmin::start(1 << 20, false);
    let limits = Limits {
        answer: 1 << 16,
        ..Limits::METRICS
    };
    let address = start(Endpoint::metrics(fake.admin()), limits).await;
    let answer = get(address, "/metrics").await;
    assert!(answer.len() < (1 << 17), "{}", answer.len());
    assert!(!answer.ends_with("0\r\n\r\n"), "it must not look whole");
}

#[tokio::test]
async fn without_envoy_metrics_are_unavailable() {
    let directory = tempfile::tempdir().unwrap();
    let admin = Admin::new(directory.path().join("none.sock"));
    let address = start(Endpoint::metrics(admin), Limits::METRICS).await;
    let answer = get(address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}
