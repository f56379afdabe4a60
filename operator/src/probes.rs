//! `/healthz` and `/readyz`, on a port of their own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How long one connection may take.
const LONGEST: Duration = Duration::from_secs(10);
/// How many connections are answered at a time: kubelets need one or two.
const MOST: usize = 32;

/// Whether the program is ready: it has read everything that it decides from.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says so.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers probes on this address until it is dropped. Returns the address that it listens on.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    ready: Ready,
) -> std::io::Result<(SocketAddr, impl Future<Output = ()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let places = Arc::new(Semaphore::new(MOST));
    let serving = async move {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of file descriptors, or a connection that died meanwhile.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let ready = ready.clone();
            tokio::spawn(async move {
                let answers = service_fn(|request| {
                    let answer = answer(&request, ready.get());
                    async { Ok::<_, Infallible>(answer) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(LONGEST)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), answers);
                // A client that goes away is none of our business.
                let _ = tokio::time::timeout(LONGEST, connection).await;
                drop(place);
            });
        }
    };
    Ok((address, serving))
}

fn answer(request: &Request<Incoming>, ready: bool) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => (StatusCode::OK, "ok\n"),
        (&Method::GET, "/readyz") if ready => (StatusCode::OK, "ok\n"),
        (&Method::GET, "/readyz") => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not everything is read yet\n",
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "only /healthz and /readyz are here\n",
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn status(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer.split(' ').nth(1).expect("a status").to_owned()
    }

    #[tokio::test]
    async fn readiness_follows_what_was_said() {
        let ready = Ready::default();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, serving) = serve(any, ready.clone()).await.expect("listening");
        let task = tokio::spawn(serving);
        assert_eq!(status(address, "/healthz").await, "200");
        assert_eq!(status(address, "/readyz").await, "503");
        ready.set(true);
        assert_eq!(status(address, "/readyz").await, "200");
        assert_eq!(status(address, "/metrics").await, "404");
        task.abort();
    }
}
