//! The server: moves bytes between Envoys and their [machines](crate::machine), and lets nobody
//! else in.
//!
//! - Mutual TLS, always. Each handshake takes the newest configuration, so certificates and CAs
//!   rotate without a restart; streams that are open stay open until their certificate expires.
//! - Every request is authenticated, whatever its path and method: who the [`Directory`] does not
//!   know gets `PermissionDenied` before anything is looked at.
//! - Everything is bounded ([`Limits`]): what a slow, silent or hostile client can hold is one
//!   place among the connections, for a while, and a fixed amount of memory.

mod accept;
mod ads;
mod auth;
mod metrics;
#[cfg(test)]
mod tests;
mod tls;

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use postern_envoy::Resources;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::identity::Identity;
use crate::machine::Event;
use ads::Ads;
use auth::Authenticate;
use discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
pub use metrics::Metrics;
pub use tls::{ConfigError, server_config};

/// One delta stream of one Envoy; never used twice by a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Knows which Envoys there are, what each is to hold, and wants to know what became of it.
///
/// The methods are called from the server's tasks and must not block.
pub trait Directory: Send + Sync + 'static {
    /// What the Envoys of this identity are to hold, now and later; `None` for an identity that is
    /// not known. When the sender is dropped, their streams end.
    ///
    /// A reconnecting Envoy drops what is missing here: nothing must be returned before the first
    /// resources are complete.
    fn resources(&self, identity: &Identity) -> Option<watch::Receiver<Arc<Resources>>>;

    /// An Envoy has opened a stream, from this address. Called once for each stream, first.
    fn opened(&self, identity: &Identity, stream: StreamId, address: IpAddr);

    /// An Envoy has acknowledged or refused something.
    fn event(&self, identity: &Identity, stream: StreamId, event: Event);

    /// A stream has ended: its Envoy counts no more. Called once for each stream, last.
    fn closed(&self, identity: &Identity, stream: StreamId);
}

/// The bounds of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections after their handshake, of all clients together. One more is closed.
    pub connections: usize,
    /// Handshakes under way. For one more, the oldest is given up: a handshake takes milliseconds,
    /// so this hits who stalls.
    pub handshakes: usize,
    /// Time for a handshake.
    pub handshake: Duration,
    /// Time until a connection's first request from somebody known.
    pub first_request: Duration,
    /// Requests of one connection at a time; an Envoy makes one.
    pub streams: u32,
    /// Bytes of one message of a client.
    pub message: usize,
    /// How often a connection is asked for a sign of life (HTTP/2 PING), and how long that may take.
    pub keepalive: (Duration, Duration),
    /// How long one response may wait for a client that does not read.
    pub stall: Duration,
    /// How long clients may take to leave at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            handshakes: 128,
            handshake: Duration::from_secs(5),
            first_request: Duration::from_secs(10),
            streams: 4,
            message: 8 << 20,
            keepalive: (Duration::from_secs(20), Duration::from_secs(10)),
            stall: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}

/// Bounds and counters of a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The bounds.
    pub limits: Limits,
    /// Where the server counts.
    pub metrics: Arc<Metrics>,
}

/// Why a server ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("the xDS server failed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves delta ADS until `shutdown`, then ends all streams with `Unavailable` and returns.
///
/// # Errors
/// None that a client could cause.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    directory: Arc<dyn Directory>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let Options { limits, metrics } = options;
    let (stop, stopped) = watch::channel(false);
    let ads = Ads::new(
        directory.clone(),
        metrics.clone(),
        limits.clone(),
        stopped.clone(),
    );
    let service =
        AggregatedDiscoveryServiceServer::new(ads).max_decoding_message_size(limits.message);
    let (connections, accepted) = mpsc::channel(1);
    let server = Server::builder()
        .max_concurrent_streams(limits.streams)
        .http2_keepalive_interval(Some(limits.keepalive.0))
        .http2_keepalive_timeout(Some(limits.keepalive.1))
        .http2_max_header_list_size(16 << 10)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(512 << 10)
        .layer(Authenticate::new(directory, metrics.clone()))
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(accepted), {
            let mut stopped = stopped;
            async move {
                // An error is the end, too.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            }
        });
    let mut server = pin!(server);
    {
        let accepting = accept::run(listener, tls, limits.clone(), metrics, connections);
        tokio::select! {
            result = &mut server => return Ok(result?),
            () = accepting => {}
            () = shutdown => {}
        }
    }
    stop.send_replace(true);
    match tokio::time::timeout(limits.drain, server).await {
        Ok(result) => Ok(result?),
        Err(_) => Ok(()),
    }
}
