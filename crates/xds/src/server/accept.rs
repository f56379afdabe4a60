//! From the listening socket to connections whose client has shown a certificate of ours.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{Limits, Metrics};
use crate::identity::{Identity, IdentityError, not_after};

/// How long after its certificate a connection ends: its streams say first why they end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is known of the other end of a connection: its verified certificate.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: Result<Identity, IdentityError>,
    expires: Option<Instant>,
    address: SocketAddr,
    admitted: AtomicBool,
}

impl Peer {
    fn new(certificate: Option<&[u8]>, address: SocketAddr) -> Peer {
        let certificate = certificate.unwrap_or_default();
        let left = not_after(certificate).map(|at| {
            let left = at.duration_since(SystemTime::now());
            left.unwrap_or(Duration::ZERO)
        });
        Peer(Arc::new(Inner {
            identity: Identity::of_certificate(certificate),
            // No end in sight if it is too far to be counted.
            expires: left.and_then(|left| Instant::now().checked_add(left)),
            address,
            admitted: AtomicBool::new(false),
        }))
    }

    pub fn identity(&self) -> &Result<Identity, IdentityError> {
        &self.0.identity
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// When the certificate expires.
    pub fn expires(&self) -> Option<Instant> {
        self.0.expires
    }

    /// Notes that it is somebody known, who may stay.
    pub fn admit(&self) {
        self.0.admitted.store(true, Ordering::Relaxed);
    }

    fn is_admitted(&self) -> bool {
        self.0.admitted.load(Ordering::Relaxed)
    }
}

/// A connection after its handshake. It ends by itself if nobody known makes a request on it, and when
/// its certificate expires: an Envoy opens its next stream on the connection that it has, where it would
/// be known by the old certificate for ever, whatever newer one it holds.
pub(super) struct Connection {
    io: TlsStream<TcpStream>,
    peer: Peer,
    first_request: Pin<Box<Sleep>>,
    expired: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.peer.is_admitted() && self.first_request.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Some(expired) = &mut self.expired
            && expired.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Accepts for ever, whatever clients do.
pub(super) async fn run(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    limits: Limits,
    metrics: Arc<Metrics>,
    connections: mpsc::Sender<io::Result<Connection>>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut handshakes = JoinSet::new();
    let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (socket, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Of the one connection, or out of file descriptors: then wait for some.
                    tracing::warn!(%error, "cannot accept");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            Some(_) = handshakes.join_next() => continue,
        };
        oldest.retain(|handshake| !handshake.is_finished());
        if oldest.len() >= limits.handshakes
            && let Some(handshake) = oldest.pop_front()
        {
            metrics.turn_away();
            handshake.abort();
        }
        let acceptor = TlsAcceptor::from(tls.borrow().clone());
        let (places, limits) = (places.clone(), limits.clone());
        let (metrics, connections) = (metrics.clone(), connections.clone());
        oldest.push_back(handshakes.spawn(async move {
            match shake(acceptor, socket, address, &places, &limits).await {
                // The server takes it at once, or is gone.
                Ok(connection) => {
                    let _ = connections.send(Ok(connection)).await;
                }
                Err(error) => {
                    tracing::debug!(%address, %error, "turned away");
                    metrics.turn_away();
                }
            }
        }));
    }
}

async fn shake(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    address: SocketAddr,
    places: &Arc<Semaphore>,
    limits: &Limits,
) -> io::Result<Connection> {
    socket.set_nodelay(true)?;
    let io = timeout(limits.handshake, acceptor.accept(socket)).await??;
    let place = places.clone().try_acquire_owned();
    let place = place.map_err(|_| io::Error::other("too many connections"))?;
    let certificates = io.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(<[_]>::first).map(AsRef::as_ref);
    let peer = Peer::new(certificate, address);
    let expired = peer.expires().and_then(|at| at.checked_add(LAST_WORDS));
    Ok(Connection {
        expired: expired.map(|at| Box::pin(sleep_until(at))),
        peer,
        io,
        first_request: Box::pin(sleep(limits.first_request)),
        _place: place,
    })
}
