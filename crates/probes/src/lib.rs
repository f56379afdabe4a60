//! Small pages over HTTP: probes for a kubelet, metrics for a monitoring system. Exactly the pages
//! that are named exist, `GET` is the one method, and slow or many clients are bounded.

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

/// What stands at a path: `None` is 404.
pub trait Pages: Send + Sync + 'static {
    /// The status and text of a page.
    fn page(&self, path: &str) -> Option<(u16, String)>;
}

/// Whether a program is ready, as `/healthz` and `/readyz`.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says so.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
}

impl Pages for Ready {
    fn page(&self, path: &str) -> Option<(u16, String)> {
        match path {
            "/healthz" => Some((200, "ok\n".into())),
            "/readyz" if self.0.load(Ordering::Relaxed) => Some((200, "ok\n".into())),
            "/readyz" => Some((503, "not everything is read yet\n".into())),
            _ => None,
        }
    }
}

/// Metrics in the Prometheus text format, as `/metrics`.
pub struct Metrics<F>(pub F);

impl<F: Fn() -> String + Send + Sync + 'static> Pages for Metrics<F> {
    fn page(&self, path: &str) -> Option<(u16, String)> {
        (path == "/metrics").then(|| (200, (self.0)()))
    }
}

/// Serves pages on this address until it is dropped. Returns the address that it listens on.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    pages: impl Pages,
) -> std::io::Result<(SocketAddr, impl Future<Output = ()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let places = Arc::new(Semaphore::new(MOST));
    let pages = Arc::new(pages);
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
            let pages = pages.clone();
            tokio::spawn(async move {
                let answers = service_fn(|request| {
                    let answer = answer(&request, &*pages);
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

fn answer(request: &Request<Incoming>, pages: &impl Pages) -> Response<Full<Bytes>> {
    let page = (request.method() == Method::GET)
        .then(|| pages.page(request.uri().path()))
        .flatten();
    let (status, text) = page.unwrap_or((404, "there is no such page\n".into()));
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
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
        for path in [
            "/metrics",
            "/readyz/",
            "/readyz/..",
            "//healthz",
            "/%72eadyz",
        ] {
            assert_eq!(status(address, path).await, "404", "{path}");
        }
        task.abort();
    }
}
