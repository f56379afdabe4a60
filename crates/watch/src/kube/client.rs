//! Connections to an API server.
//!
//! RBAC by name means a watch a Secret, and kube opens an HTTP/1.1 connection a watch: 300 Secrets
//! are 300 connections and 15 MiB. So watches go over HTTP/2, many a connection. But an API server
//! allows a connection 100 streams, and a request past that hangs without an error: so there are at
//! most [`WATCHES_A_CONNECTION`] watches on each, and lists, writes and the Lease have a client of
//! their own, which watches cannot starve.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config, Error};
use tower::ServiceBuilder;

/// The most watches on one connection.
pub const WATCHES_A_CONNECTION: usize = 80;
/// A dead peer is noticed after this and [`PING_TIMEOUT`].
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a list or a write may wait for bytes.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The clients of one API server: cheap to clone.
#[derive(Clone)]
pub struct Clients {
    /// For lists, writes and the Lease.
    general: Client,
    watching: Arc<Pool>,
}

impl Clients {
    /// Clients for a configuration. Service-account tokens are read again as they are renewed.
    ///
    /// # Errors
    /// If the configuration's certificates or credentials cannot be used.
    pub fn new(config: &Config) -> Result<Clients, Error> {
        let mut general = config.clone();
        general.read_timeout = Some(READ_TIMEOUT);
        general.write_timeout = Some(READ_TIMEOUT);
        let general = Client::try_from(general)?;
        // What cannot be made now would fail later, in the background.
        drop(watching_client(config)?);
        let config = config.clone();
        Ok(Clients::from_parts(general, move || {
            watching_client(&config)
        }))
    }

    /// Clients made in some other way: `watching` makes one more connection for watches.
    pub fn from_parts(
        general: Client,
        watching: impl Fn() -> Result<Client, Error> + Send + Sync + 'static,
    ) -> Clients {
        Clients {
            general,
            watching: Arc::new(Pool {
                make: Box::new(watching),
                connections: Mutex::default(),
            }),
        }
    }

    /// The client for lists, writes and the Lease.
    #[must_use]
    pub fn general(&self) -> Client {
        self.general.clone()
    }

    /// Room for one watch, until the lease is dropped.
    pub(super) fn lease(&self) -> Result<Lease, Error> {
        Pool::lease(&self.watching)
    }
}

type Make = Box<dyn Fn() -> Result<Client, Error> + Send + Sync>;

struct Pool {
    make: Make,
    /// By number: the client, and how many watches it carries.
    connections: Mutex<BTreeMap<u64, (Client, usize)>>,
}

/// Room for one watch on a connection.
pub(super) struct Lease {
    pub(super) client: Client,
    number: u64,
    pool: Arc<Pool>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (Client, usize)>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(pool: &Arc<Pool>) -> Result<Lease, Error> {
        let mut connections = pool.lock();
        // The fullest that has room, so that the others may empty and close.
        let fullest = connections
            .iter_mut()
            .filter(|(_, (_, used))| *used < WATCHES_A_CONNECTION)
            .max_by_key(|(_, (_, used))| *used);
        let (client, number) = if let Some((number, (client, used))) = fullest {
            *used += 1;
            (client.clone(), *number)
        } else {
            let client = (pool.make)()?;
            let number = connections.keys().last().map_or(0, |last| last + 1);
            connections.insert(number, (client.clone(), 1));
            (client, number)
        };
        Ok(Lease {
            client,
            number,
            pool: Arc::clone(pool),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut connections = self.pool.lock();
        if let Some((_, used)) = connections.get_mut(&self.number) {
            *used -= 1;
            if *used == 0 {
                connections.remove(&self.number);
            }
        }
    }
}

/// A client with one HTTP/2 connection.
fn watching_client(config: &Config) -> Result<Client, Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(config.connect_timeout);
    http.set_nodelay(true);
    let mut tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = rustls_pki_types::ServerName::try_from(name.clone())
            .map_err(|error| Error::Service(Box::new(error)))?;
        tls = tls.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name));
    }
    let client: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .build(tls.enable_http2().wrap_connector(http));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_connection_takes_no_more_watches_than_it_can_carry() {
        let made = Arc::new(AtomicUsize::new(0));
        let unused = || {
            let service = tower::service_fn(|_: http::Request<Body>| async {
                Ok::<_, tower::BoxError>(http::Response::new(Body::empty()))
            });
            Client::new(service, "default")
        };
        let counter = Arc::clone(&made);
        let clients = Clients::from_parts(unused(), move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(unused())
        });
        let mut leases: Vec<Lease> = (0..200)
            .map(|_| clients.lease().expect("a lease"))
            .collect();
        assert_eq!(made.load(Ordering::Relaxed), 3);
        let used = |clients: &Clients| -> Vec<usize> {
            clients
                .watching
                .lock()
                .values()
                .map(|(_, used)| *used)
                .collect()
        };
        assert_eq!(used(&clients), [80, 80, 40]);
        // Room that becomes free is used before a connection is made.
        leases.truncate(100);
        assert_eq!(used(&clients), [80, 20]);
        leases.drain(..30);
        assert_eq!(used(&clients), [50, 20]);
        leases.extend((0..60).map(|_| clients.lease().expect("a lease")));
        assert_eq!(used(&clients), [80, 50]);
        assert_eq!(made.load(Ordering::Relaxed), 3);
        leases.clear();
        assert!(used(&clients).is_empty());
    }
}
