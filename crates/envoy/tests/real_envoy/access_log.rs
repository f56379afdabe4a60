//! One JSON line a request.

use postern_model::Trust;
use serde_json::json;

use crate::hardening::start;
use crate::world::{World, raw_from};

const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 9, 9, 9));

async fn ask(world: &World, head: &str) {
    let request = format!("{head}\r\nconnection: close\r\n\r\n");
    raw_from(CLIENT, world.listener(), request.as_bytes())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_request_is_a_line_without_its_query() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    let head = "GET /one/path?token=hunter2 HTTP/1.1\r\nhost: a.example\r\n\
        user-agent: me\",\"status\":999,\"x\":\"\r\nx-forwarded-for: 1.2.3.4";
    ask(&world, head).await;
    let line = world.access_line("/one/path").await;
    for (field, expected) in [
        ("method", json!("GET")),
        ("host", json!("a.example")),
        ("path", json!("/one/path")),
        ("protocol", json!("HTTP/1.1")),
        ("status", json!(200)),
        ("flags", json!("-")),
        ("listener", json!("web")),
        ("client", json!("127.9.9.9")),
        ("userAgent", json!("me\",\"status\":999,\"x\":\"")),
        ("backend", json!("ns/a/80")),
    ] {
        assert_eq!(line[field], expected, "{field} of {line}");
    }
    let peer = line["peer"].as_str().unwrap();
    assert!(peer.starts_with("127.9.9.9:"), "{line}");
    assert!(!line.to_string().contains("hunter2"), "{line}");
}

#[tokio::test]
async fn a_refused_request_is_a_line_too() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    ask(&world, "GET /a%2fb HTTP/1.1\r\nhost: refused.example").await;
    let line = world.access_line("refused.example").await;
    assert_eq!(line["status"], 400, "{line}");
    assert_eq!(line["client"], "127.9.9.9", "{line}");
}

#[tokio::test]
async fn the_client_is_whom_the_trusted_proxy_names_or_unknown() {
    let Some(world) = start(Trust::ForwardedHeaders { hops: 1 }).await else {
        return;
    };
    let head = "GET /named HTTP/1.1\r\nhost: a.example\r\nx-forwarded-for: 1.2.3.4, 5.6.7.8";
    ask(&world, head).await;
    let line = world.access_line("/named").await;
    assert_eq!(line["client"], "5.6.7.8", "{line}");
    let Some(world) = start(Trust::Unknown).await else {
        return;
    };
    ask(&world, head).await;
    let line = world.access_line("/named").await;
    assert_eq!(line["client"], "unknown", "{line}");
    assert!(line["peer"].as_str().unwrap().starts_with("127.9.9.9:"));
}
