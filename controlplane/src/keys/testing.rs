//! What the tests of keys share.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use postern_xds::Identity;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::sync::watch;

use super::authority::{Bundle, Plan, plan};
use super::lifetimes::Lifetimes;
use super::material::{Leaf, one_certificate, provider, roots};
use super::run::Clock;
use super::store::{Contents, Part, encode};
use super::subject::{Subject, service_names};
use super::tls::server_config;

/// Some time in 2027.
pub const START: u64 = 1_800_000_000;
pub const DNS: &str = "xds.team-a.svc";

pub fn subject() -> Subject {
    of("team-a", &["default", "fast"])
}

pub fn of(namespace: &str, shards: &[&str]) -> Subject {
    let dns = service_names("xds", namespace, "cluster.local");
    let shards = shards.iter().map(|shard| (*shard).to_owned());
    Subject::new("postern.local", namespace, "web", dns, shards).unwrap()
}

/// Certificates of two minutes, and all else in proportion: what lags 80 s beside the ten minutes
/// of the default lags 20 s here.
pub fn short() -> Lifetimes {
    let lifetimes = Lifetimes {
        authority: Duration::from_secs(1200),
        leaf: Duration::from_secs(120),
        renew_percent: 66,
        overlap: Duration::from_secs(60),
        backdate: Duration::from_secs(60),
        lag: Duration::from_secs(20),
        recheck: Duration::from_secs(10),
    };
    lifetimes.check().unwrap();
    lifetimes
}

pub fn at(t: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(t))
}

/// Plans until nothing changes, as if all were written at once.
pub fn settle(current: Option<Bundle>, t: u64, lifetimes: &Lifetimes) -> Plan {
    let mut current = current;
    for _ in 0..6 {
        let plan = plan(current.as_ref(), &subject(), at(t), lifetimes, false).unwrap();
        if !plan.changed.any() {
            return plan;
        }
        current = Some(plan.bundle);
    }
    panic!("plans without end");
}

pub fn contents(bundle: &Bundle, subject: &Subject) -> BTreeMap<Part, Contents> {
    let parts = Part::of(subject).into_iter();
    parts
        .filter_map(|part| Some((part.clone(), encode(bundle, &part)?)))
        .collect()
}

#[derive(Debug)]
struct Fixed(UnixTime);

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// A handshake between the server with a bundle and an Envoy with what it has mounted.
pub fn handshake(server: &Bundle, envoy: &Leaf, shard: &str, t: u64) -> Result<(), String> {
    let config = server_config(server).map_err(|e| e.to_string())?;
    handshake_with(&config, envoy, &subject(), shard, t)
}

/// Likewise, with the server's configuration. Both ends have the same clock.
pub fn handshake_with(
    server: &ServerConfig,
    envoy: &Leaf,
    subject: &Subject,
    shard: &str,
    t: u64,
) -> Result<(), String> {
    let time = Arc::new(Fixed(at(t)));
    let mut server = server.clone();
    server.time_provider = time.clone();
    let key = PrivateKeyDer::from_pem_slice(envoy.key.pem().as_bytes()).unwrap();
    let certificate = one_certificate(&envoy.certificate).unwrap();
    let mut client = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots(&envoy.trust).unwrap())
        .with_client_auth_cert(vec![certificate], key)
        .map_err(|e| e.to_string())?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(DNS).unwrap();
    let mut client: Connection = ClientConnection::new(Arc::new(client), name)
        .unwrap()
        .into();
    let mut server: Connection = ServerConnection::new(Arc::new(server)).unwrap().into();
    for _ in 0..6 {
        pass(&mut client, &mut server).map_err(|e| format!("the server refuses: {e}"))?;
        pass(&mut server, &mut client).map_err(|e| format!("the client refuses: {e}"))?;
    }
    // A client knows only now that it was let in.
    client.writer().write_all(b"in").unwrap();
    pass(&mut client, &mut server).map_err(|e| format!("the server refuses: {e}"))?;
    let mut read = [0; 2];
    server
        .reader()
        .read_exact(&mut read)
        .map_err(|e| e.to_string())?;
    let shown = server.peer_certificates().unwrap()[0].clone();
    let identity = Identity::of_certificate(&shown).map_err(|e| e.to_string())?;
    assert_eq!(identity.to_string(), subject.shard_uri(shard));
    Ok(())
}

fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// A clock that is moved by hand.
#[derive(Clone)]
pub struct TestClock(pub Arc<watch::Sender<u64>>);

impl TestClock {
    pub fn new() -> TestClock {
        TestClock(Arc::new(watch::Sender::new(START)))
    }

    pub fn set(&self, t: u64) {
        self.0.send_replace(t);
    }

    pub fn t(&self) -> u64 {
        *self.0.borrow()
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixTime {
        at(self.t())
    }

    async fn sleep(&self, time: Duration) {
        let until = self.t() + time.as_secs();
        let mut receiver = self.0.subscribe();
        let _ = receiver.wait_for(|t| *t >= until).await;
    }
}
