//! The two endpoints that are reachable over the network: `/ready` and `/metrics`, each on an
//! address of its own.
//!
//! Both answer one exact request and 404 to everything else; what they say does not depend on
//! anything in the request. Readiness never touches the admin interface; metrics asks it for one
//! fixed path, one scraper at a time, up to a size.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::admin::{Admin, AdminBody};
use crate::readiness::Phase;

/// Only what has a value: an Envoy with many clusters has far more statistics than news.
const METRICS: &str = "/stats/prometheus?usedonly";

/// Bounds of one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. Further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long the request's head may take to arrive.
    pub head: Duration,
    /// How long a connection may last in all.
    pub whole: Duration,
    /// Most bytes of an answer; a longer one breaks off, so that no part is taken for the whole.
    pub answer: usize,
}

impl Limits {
    /// For `/ready`.
    pub const READINESS: Self = Self {
        connections: 64,
        head: Duration::from_secs(2),
        whole: Duration::from_secs(5),
        answer: 256,
    };
    /// For `/metrics`.
    pub const METRICS: Self = Self {
        connections: 16,
        head: Duration::from_secs(2),
        whole: Duration::from_secs(30),
        answer: 64 << 20,
    };
}

/// Most bytes of a request's head. Hyper's own least buffer.
const MAX_HEAD: usize = 8192;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// What an endpoint answers.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// `GET /ready`: 200 when ready, else 503.
    Readiness(watch::Receiver<Phase>),
    /// `GET /metrics`: Envoy's statistics for Prometheus.
    Metrics {
        /// Where they come from.
        admin: Admin,
        /// Holds one permit: for the scraper that is being answered.
        turn: Arc<Semaphore>,
    },
}

type Answer = Response<Either<Full<Bytes>, Bounded>>;

impl Endpoint {
    /// Metrics from `admin`.
    pub fn metrics(admin: Admin) -> Self {
        Self::Metrics {
            admin,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    fn path(&self) -> &'static str {
        match self {
            Self::Readiness(_) => "/ready",
            Self::Metrics { .. } => "/metrics",
        }
    }

    async fn answer<B>(&self, request: &Request<B>, limits: Limits) -> Answer {
        if !is_exactly(request, self.path()) {
            return text(StatusCode::NOT_FOUND, "not found\n");
        }
        match self {
            Self::Readiness(phase) => match *phase.borrow() {
                Phase::Ready => text(StatusCode::OK, "ready\n"),
                Phase::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
                Phase::Starting(waiting) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("waiting for {waiting}\n"),
                ),
            },
            Self::Metrics { admin, turn } => {
                let Ok(permit) = Arc::clone(turn).try_acquire_owned() else {
                    return text(StatusCode::SERVICE_UNAVAILABLE, "another scrape runs\n");
                };
                match admin.send(Method::GET, METRICS).await {
                    Ok(answer) if answer.status() == StatusCode::OK => {
                        let body = Bounded {
                            body: answer.into_body(),
                            left: limits.answer,
                            _permit: permit,
                        };
                        let mut answer = Response::new(Either::Right(body));
                        answer.headers_mut().insert(
                            CONTENT_TYPE,
                            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
                        );
                        answer
                    }
                    _ => text(StatusCode::SERVICE_UNAVAILABLE, "Envoy does not answer\n"),
                }
            }
        }
    }
}

/// `GET`, the path byte for byte, no query, not even an empty one, no absolute form, and no body.
fn is_exactly<B>(request: &Request<B>, path: &str) -> bool {
    let uri = request.uri();
    request.method() == Method::GET
        && matches!(request.version(), Version::HTTP_10 | Version::HTTP_11)
        && uri.scheme().is_none()
        && uri.authority().is_none()
        && uri.path_and_query().is_some_and(|p| p.as_str() == path)
        && !request.headers().contains_key(http::header::CONTENT_LENGTH)
        && !request
            .headers()
            .contains_key(http::header::TRANSFER_ENCODING)
        && !request.headers().contains_key(http::header::UPGRADE)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Envoy's answer, passed on as it comes, up to a size.
#[derive(Debug)]
struct Bounded {
    body: AdminBody,
    left: usize,
    _permit: OwnedSemaphorePermit,
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(io::Error::other(error))));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let size = frame.data_ref().map_or(0, Bytes::len);
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => Poll::Ready(Some(Err(io::Error::other(
                "more statistics than are passed on",
            )))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers on `listener` until dropped. A bad or slow client costs its own connection only.
pub async fn serve(listener: TcpListener, endpoint: Endpoint, limits: Limits) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: those in use go in time.
                tracing::debug!(%error, "no connection accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let _slot = slot;
            // Over time or broken: the client has gone or is none.
            let _ = tokio::time::timeout(limits.whole, connection(stream, &endpoint, limits)).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    endpoint: &Endpoint,
    limits: Limits,
) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(endpoint.answer(&request, limits).await)
    });
    // One request a connection: nothing can be smuggled behind it, and slots do not stay taken.
    http1::Builder::new()
        .keep_alive(false)
        .half_close(false)
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// Listens on `address`.
///
/// # Errors
///
/// Where the address is taken, not ours, or not permitted.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

#[cfg(test)]
mod tests;
