//! A client of Envoy's admin interface, over its Unix socket.
//!
//! Paths are `&'static str`: no input from anywhere can become an admin path.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// How long Envoy may take to answer. Its main thread can be busy with a large configuration.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer that is read whole.
const MAX_ANSWER: usize = 8 << 20;

/// Envoy's admin interface.
#[derive(Clone, Debug)]
pub struct Admin {
    socket: PathBuf,
}

/// Why Envoy gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The socket is not there, or nobody listens.
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    /// The exchange failed.
    #[error("no answer: {0}")]
    Exchange(#[from] hyper::Error),
    /// It took too long.
    #[error("no answer in {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    /// The answer is no text, or longer than is read.
    #[error("unusable answer: {0}")]
    Body(String),
    /// The answer is not 200.
    #[error("answered {0}")]
    Status(StatusCode),
}

/// The body of an answer, with the connection that it comes from.
#[derive(Debug)]
pub struct AdminBody {
    body: Incoming,
    connection: JoinHandle<()>,
}

impl Drop for AdminBody {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Body for AdminBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Admin {
    /// The interface on `socket`. Connects for each request.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Sends one request; the body of the answer is still to be read.
    ///
    /// # Errors
    ///
    /// Where there is no connection or no answer in five seconds. Any status is an answer.
    pub async fn send(
        &self,
        method: Method,
        path: &'static str,
    ) -> Result<Response<AdminBody>, AdminError> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(method, path))
            .await
            .map_err(|_| AdminError::Timeout)?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &'static str,
    ) -> Result<Response<AdminBody>, AdminError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(AdminError::Connect)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // Its error is the sender's or the body's too.
            let _ = connection.await;
        });
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = http::Uri::from_static(path);
        request
            .headers_mut()
            .insert(http::header::HOST, http::HeaderValue::from_static("admin"));
        let answer = sender.send_request(request).await;
        if answer.is_err() {
            connection.abort();
        }
        Ok(answer?.map(|body| AdminBody { body, connection }))
    }

    /// Asks for a text.
    ///
    /// # Errors
    ///
    /// As [`Admin::send`]; also where the status is not 200, or the text has more than 8 MiB.
    pub async fn get(&self, path: &'static str) -> Result<String, AdminError> {
        self.text(Method::GET, path).await
    }

    /// Orders something.
    ///
    /// # Errors
    ///
    /// As [`Admin::get`].
    pub async fn post(&self, path: &'static str) -> Result<(), AdminError> {
        self.text(Method::POST, path).await.map(drop)
    }

    async fn text(&self, method: Method, path: &'static str) -> Result<String, AdminError> {
        let whole = async {
            let (parts, body) = self.exchange(method, path).await?.into_parts();
            if parts.status != StatusCode::OK {
                return Err(AdminError::Status(parts.status));
            }
            let bytes = Limited::new(body, MAX_ANSWER)
                .collect()
                .await
                .map_err(|e| AdminError::Body(e.to_string()))?
                .to_bytes();
            String::from_utf8(bytes.into()).map_err(|e| AdminError::Body(e.to_string()))
        };
        tokio::time::timeout(ANSWER_TIMEOUT, whole)
            .await
            .map_err(|_| AdminError::Timeout)?
    }
}
