//! A backend for examples and tests: answers every request with what it saw of it, as JSON.
//!
//! `{"backend", "method", "path", "query", "host", "peer", "headers": {name: [values]}}`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// A backend that answers with what it saw of the request.
#[derive(Parser)]
struct Arguments {
    /// The name that it answers with.
    #[arg(long, default_value = "echo")]
    name: String,
    /// Where it listens. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    // Whoever started us with port 0 reads the port here.
    println!("listening on {}", listener.local_addr()?);
    let name: std::sync::Arc<str> = arguments.name.into();
    loop {
        let (stream, peer) = listener.accept().await?;
        let name = name.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(name.clone(), peer, request));
            // A client that goes away in the middle is no error of ours.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    name: std::sync::Arc<str>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // `?delay=3s` answers late: slow requests for tests of rolling restarts.
    let delay = request
        .uri()
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'))
        .find_map(|pair| {
            pair.strip_prefix("delay=")?
                .strip_suffix('s')?
                .parse::<u64>()
                .ok()
        });
    if let Some(seconds) = delay {
        tokio::time::sleep(Duration::from_secs(seconds.min(60))).await;
    }
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (header, value) in request.headers() {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(header.as_str()).or_default().push(text);
    }
    let host = request
        .uri()
        .authority()
        .map(ToString::to_string)
        .or_else(|| Some(request.headers().get(HOST)?.to_str().ok()?.to_owned()));
    let seen = serde_json::json!({
        "backend": &*name,
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "query": request.uri().query(),
        "host": host,
        "peer": peer.ip().to_string(),
        "headers": headers,
    });
    let mut response = Response::new(Full::new(Bytes::from(format!("{seen}\n"))));
    response.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}
