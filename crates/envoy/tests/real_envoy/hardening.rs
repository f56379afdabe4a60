//! Clients that mean harm.

use std::net::{IpAddr, SocketAddr};

use postern_model::{Proxy, Trust};

use crate::fixtures::{entry, host, listener, path, put_listener, put_table, status, table, to};
use crate::routing::with_backends;
use crate::world::{Answer, PORT, World, raw_from};

/// A client's address that is neither Envoy's nor the backend's.
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 9, 9, 9));

pub async fn start(trust: Trust) -> Option<World> {
    let mut world = World::start().await?;
    let mut proxy: Proxy = with_backends(&world, &["a"]).await;
    put_listener(&mut proxy, listener("web", PORT, "web", trust));
    let entries = vec![
        entry("all", path("/*"), to("ns/a/80")),
        entry("admin", path("/admin*"), status(403)),
    ];
    put_table(&mut proxy, table("web", vec![host("*", entries)]));
    world.apply(&proxy).await;
    Some(world)
}

/// A request from `CLIENT`, with these lines of headers.
async fn from_client(world: &World, preface: &str, headers: &str) -> Answer {
    let request =
        format!("{preface}GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n{headers}\r\n");
    let text = raw_from(CLIENT, world.listener(), request.as_bytes()).await;
    Answer::parse(&text.unwrap_or_default())
}

const SPOOFED: &str = "X-Forwarded-For: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
    X-Forwarded-Client-Cert: By=evil\r\nX-Forwarded-Whatever: evil\r\nForwarded: for=1.2.3.4\r\n\
    X-Real-IP: 1.2.3.4\r\nTrue-Client-IP: 1.2.3.4\r\nX-Original-URL: /admin\r\n\
    X-Rewrite-URL: /admin\r\nX-Envoy-Retry-On: 5xx\r\nX-Envoy-Upstream-Rq-Timeout-Ms: 1\r\n\
    X-Envoy-External-Address: 1.2.3.4\r\nX-Envoy-Internal: true\r\nX-Request-Id: mine\r\n";

#[tokio::test]
async fn nothing_that_a_client_says_of_itself_is_believed() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    let answer = from_client(&world, "", SPOOFED).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let client = CLIENT.to_string();
    assert_eq!(answer.seen("x-forwarded-for"), [&*client]);
    assert_eq!(answer.seen("x-forwarded-proto"), ["http"]);
    assert_eq!(answer.seen("x-envoy-external-address"), [&*client]);
    assert_ne!(answer.seen("x-request-id"), ["mine"]);
    for name in [
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-client-cert",
        "x-forwarded-whatever",
        "forwarded",
        "x-real-ip",
        "true-client-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-envoy-retry-on",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-internal",
    ] {
        assert_eq!(answer.seen(name), [""; 0], "{name}");
    }
    assert!(!answer.head.contains("x-envoy"), "{}", answer.head);
}

#[tokio::test]
async fn a_trusted_proxys_last_word_counts() {
    let Some(world) = start(Trust::ForwardedHeaders { hops: 1 }).await else {
        return;
    };
    // The proxy in front appended 5.6.7.8; the client had written 1.2.3.4.
    let answer = from_client(&world, "", SPOOFED).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let chain = format!("1.2.3.4,5.6.7.8,{CLIENT}");
    assert_eq!(answer.seen("x-forwarded-for"), [chain]);
    assert_eq!(answer.seen("x-envoy-external-address"), ["5.6.7.8"]);
    assert_eq!(answer.seen("x-forwarded-proto"), ["https"]);
    assert_eq!(answer.seen("x-forwarded-host"), ["evil"]);
    for name in [
        "x-real-ip",
        "x-original-url",
        "x-envoy-retry-on",
        "x-forwarded-client-cert",
    ] {
        assert_eq!(answer.seen(name), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn the_proxy_protocol_is_required_and_names_the_client() {
    let Some(world) = start(Trust::ProxyProtocol).await else {
        return;
    };
    let preface = "PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n";
    let answer = from_client(&world, preface, SPOOFED).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(answer.seen("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(answer.seen("forwarded"), [""; 0]);
    let without = from_client(&world, "", "").await;
    assert_eq!(without.status, 0, "{without:?}");
}

#[tokio::test]
async fn a_client_that_nobody_knows_is_said_to_be_unknown() {
    let Some(world) = start(Trust::Unknown).await else {
        return;
    };
    let answer = from_client(&world, "", SPOOFED).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(answer.seen("x-forwarded-for"), ["unknown"]);
    assert_eq!(answer.seen("x-forwarded-proto"), ["http"]);
    for name in ["forwarded", "x-forwarded-host", "x-envoy-external-address"] {
        assert_eq!(answer.seen(name), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn no_other_spelling_of_a_path_gets_around_a_route() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    for (path, allowed) in [
        ("/admin", &[403][..]),
        ("/admin/", &[403]),
        ("/admin/x", &[403]),
        ("//admin", &[403]),
        ("/./admin", &[403]),
        ("/x/../admin", &[403]),
        ("/x/..//admin", &[403]),
        ("/%61dmin", &[403]),
        ("/%2e/admin", &[403]),
        ("/x/%2e%2e/admin", &[403]),
        ("/x/..;p/admin", &[403]),
        ("/admin/..;/admin", &[403]),
        ("/x\\..\\admin", &[403]),
        ("/admin?x", &[403]),
        ("/x%2f..%2fadmin", &[400]),
        ("/x%2F..%2Fadmin", &[400]),
        ("/x%5c..%5cadmin", &[400]),
        ("/admin#x", &[400]),
        ("/x#/../admin", &[400]),
        ("/admin%00", &[400]),
        ("/../../admin", &[400, 403]),
        ("http://a.example/admin", &[403]),
        ("http://a.example//admin", &[403]),
    ] {
        let answer = world.get("a.example", path, &[]).await;
        assert!(allowed.contains(&answer.status), "{path}: {}", answer.head);
    }
    // The backend sees the path that the route was picked by.
    for (path, canonical) in [
        ("/x/..;p/y", "/y"),
        ("/x//./y", "/x/y"),
        ("/%78", "/x"),
        ("/x\\y", "/x/y"),
        ("/x;p=1/y", "/x;p=1/y"),
    ] {
        let answer = world.get("a.example", path, &[]).await;
        let line = answer.body.lines().next().unwrap_or_default();
        assert_eq!(line, format!("GET {canonical} HTTP/1.1"), "{path}");
    }
}

#[tokio::test]
async fn an_upgrade_is_not_passed_on() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    let headers = [
        ("upgrade", "h2c"),
        ("connection", "upgrade, http2-settings"),
        ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
    ];
    let answer = world.get("a.example", "/", &headers).await;
    assert_eq!(answer.status, 200);
    for name in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(answer.seen(name), [""; 0], "{name}");
    }
    let websocket = [("upgrade", "websocket"), ("connection", "upgrade")];
    let answer = world.get("a.example", "/", &websocket).await;
    assert_eq!((answer.status, answer.backend()), (403, "none"));
}

#[tokio::test]
async fn requests_that_two_servers_could_read_differently_are_refused() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    let head = "POST / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n";
    for rest in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "content-length: 5, 6\r\n\r\nhello!",
        "content-length: +5\r\n\r\nhello",
        "content-length: -1\r\n\r\n",
        "content-length: 0x5\r\n\r\nhello",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "x_user: admin\r\n\r\n",
        "x-user\0: admin\r\n\r\n",
        "x-user: ad\0min\r\n\r\n",
        "x user: admin\r\n\r\n",
        ": admin\r\n\r\n",
        "host: b.example\r\n\r\n",
    ] {
        let answer = world.raw(format!("{head}{rest}").as_bytes()).await;
        assert!((400..=505).contains(&answer.status), "{rest:?}: {answer:?}");
        assert_eq!(answer.backend(), "none", "{rest:?}");
    }
    let many: String = (0..150).map(|index| format!("x-{index}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "x".repeat(40_000));
    for (headers, expected) in [(many, 431), (long, 431)] {
        let answer = world.raw(format!("{head}{headers}\r\n").as_bytes()).await;
        assert_eq!(answer.status, expected, "{}", answer.head);
    }
    assert_eq!(world.get("a.example", "/", &[]).await.status, 200);
}

#[tokio::test]
async fn odd_methods_and_versions_leave_the_process_alive() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    for request in [
        "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nhost: a.example\r\n\r\n",
        "CONNECT HTTP/1.1\r\nhost: a.example\r\n\r\n",
        "CONNECT  HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "BREW / HTTP/1.1\r\nhost: a.example\r\n\r\n",
        "GET a HTTP/1.1\r\nhost: a.example\r\n\r\n",
        "GET * HTTP/1.1\r\nhost: a.example\r\n\r\n",
    ] {
        // Some of them end without the client's wish to close; the answer counts.
        let request = request.replacen("\r\n\r\n", "\r\nx-end: 1\r\n\r\n", 1);
        let answer = tokio::time::timeout(
            std::time::Duration::from_secs(5),
            first_line(world.listener(), request.as_bytes()),
        );
        let line = answer
            .await
            .unwrap_or_else(|_| panic!("{request:?}: no answer"));
        let status: u16 = line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        assert!(
            status == 0 || (400..=505).contains(&status),
            "{request:?}: {line}"
        );
        assert_eq!(
            world.get("a.example", "/", &[]).await.status,
            200,
            "after {request:?}"
        );
    }
    world.assert_nothing_refused().await;
}

/// The first line of the answer, empty if the connection ends without one.
async fn first_line(to: SocketAddr, bytes: &[u8]) -> String {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let mut stream = BufReader::new(tokio::net::TcpStream::connect(to).await.unwrap());
    stream.write_all(bytes).await.unwrap();
    let mut line = String::new();
    let _ = stream.read_line(&mut line).await;
    line
}

#[tokio::test]
async fn answers_do_not_name_the_proxy() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    let served = world.get("a.example", "/", &[]).await;
    assert_eq!(served.header("server"), Some("secret/1.0"));
    let refused = world.get("a.example", "/admin", &[]).await;
    assert_eq!(refused.header("server"), None, "{}", refused.head);
    assert!(!refused.head.contains("envoy"), "{}", refused.head);
    assert_eq!(refused.body, "");
}
