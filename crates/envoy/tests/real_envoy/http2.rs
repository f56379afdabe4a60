//! The same over HTTP/2: other framing, the same rules.

use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use postern_model::Trust;

use crate::hardening::start;
use crate::world::World;

/// Status and body; or the error, where the stream or connection was ended.
async fn request(world: &World, request: Request<Empty<Bytes>>) -> Result<(u16, String), String> {
    let stream = tokio::net::TcpStream::connect(world.listener()).await;
    let io = TokioIo::new(stream.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| format!("{error:?}"))?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| format!("{error:?}"))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

#[tokio::test]
async fn requests_are_served_and_clients_not_believed() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    let good = get("http://a.example/x")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-envoy-retry-on", "5xx");
    let (status, body) = request(&world, good.body(Empty::new()).unwrap())
        .await
        .unwrap();
    assert_eq!(status, 200);
    assert!(
        body.starts_with("GET /x HTTP/1.1\r\nhost: a.example\r\n"),
        "{body}"
    );
    assert!(
        !body.contains("1.2.3.4") && !body.contains("retry"),
        "{body}"
    );
    for (uri, expected) in [
        ("http://a.example/admin", 403),
        ("http://a.example//admin", 403),
        ("http://a.example/x/%2e%2e/admin", 403),
        ("http://a.example/x%2fadmin", 400),
        ("http://a,b.example/x", 400),
    ] {
        let answer = request(&world, get(uri).body(Empty::new()).unwrap()).await;
        assert_eq!(answer.map(|(status, _)| status), Ok(expected), "{uri}");
    }
}

#[tokio::test]
async fn bad_requests_are_refused_and_the_process_lives() {
    let Some(world) = start(Trust::Nothing).await else {
        return;
    };
    let connect = Request::builder().method(Method::CONNECT);
    for bad in [
        connect.uri("a.example:443"),
        get("http://a.example/").header("x_user", "admin"),
        get("http://a.example/").header("x-long", "x".repeat(40_000)),
    ] {
        let bad = bad.body(Empty::new()).unwrap();
        let shown = format!("{:?} {}", bad.method(), bad.uri());
        let answer = request(&world, bad).await;
        let refused = answer.as_ref().map_or(true, |(status, _)| *status >= 400);
        assert!(refused, "{shown}: {answer:?}");
        let after = world.get("a.example", "/", &[]).await;
        assert_eq!(after.status, 200, "after {shown}");
    }
    world.assert_nothing_refused().await;
}
