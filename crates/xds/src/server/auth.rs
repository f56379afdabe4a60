//! Who is not known gets nothing: a layer around everything that the server answers.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use postern_envoy::Resources;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::accept::Peer;
use super::{Directory, Metrics};
use crate::identity::Identity;

/// What a request was granted.
#[derive(Clone)]
pub(super) struct Granted {
    pub identity: Identity,
    /// Where the client is, as the socket says.
    pub address: IpAddr,
    pub resources: watch::Receiver<Arc<Resources>>,
    /// When the client's certificate expires.
    pub expires: Option<Instant>,
}

/// The layer.
#[derive(Clone)]
pub(super) struct Authenticate {
    directory: Arc<dyn Directory>,
    metrics: Arc<Metrics>,
}

impl Authenticate {
    pub fn new(directory: Arc<dyn Directory>, metrics: Arc<Metrics>) -> Authenticate {
        Authenticate { directory, metrics }
    }

    fn grant(&self, peer: Option<&Peer>) -> Result<Granted, Status> {
        let denied = |why: &str| {
            self.metrics.deny();
            let address = peer.map(Peer::address);
            tracing::debug!(?address, why, "denied");
            // The same for all: nobody learns who else is known.
            Status::permission_denied("not known here")
        };
        let peer = peer.ok_or_else(|| denied("no TLS"))?;
        if peer.expires().is_some_and(|at| at <= Instant::now()) {
            return Err(denied("the certificate has expired"));
        }
        let identity = match peer.identity() {
            Ok(identity) => identity,
            Err(error) => return Err(denied(&error.to_string())),
        };
        let resources = self.directory.resources(identity);
        let resources = resources.ok_or_else(|| denied("not in the directory"))?;
        peer.admit();
        Ok(Granted {
            identity: identity.clone(),
            address: peer.address().ip().to_canonical(),
            resources,
            expires: peer.expires(),
        })
    }
}

impl<S> Layer<S> for Authenticate {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated {
            layer: self.clone(),
            inner,
        }
    }
}

/// A service behind the layer.
#[derive(Clone)]
pub(super) struct Authenticated<S> {
    layer: Authenticate,
    inner: S,
}

impl<S, B> Service<Request<B>> for Authenticated<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response<Body>, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.layer.grant(request.extensions().get::<Peer>()) {
            Ok(granted) => {
                request.extensions_mut().insert(granted);
                Either::Right(self.inner.call(request))
            }
            Err(status) => Either::Left(ready(Ok(status.into_http()))),
        }
    }
}
