//! A real Envoy on the real server, over mutual TLS.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod pki;
mod real;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::{self, Any};
use postern_envoy::{Kind, Resource, Resources};
use postern_xds::server::{Directory, Options, StreamId, serve, server_config};
use postern_xds::{Event, Identity};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use pki::{Ca, Signed};
use real::{Envoy, backend, free_port, get, until};

const ENVOY: &str = "spiffe://postern.example/ns/team-a/instance/web/shard/default";

struct One {
    resources: watch::Sender<Arc<Resources>>,
    events: Mutex<Vec<Event>>,
}

impl Directory for One {
    fn resources(&self, identity: &Identity) -> Option<watch::Receiver<Arc<Resources>>> {
        (identity.to_string() == ENVOY).then(|| self.resources.subscribe())
    }

    fn opened(&self, _: &Identity, _: StreamId, _: IpAddr) {}

    fn event(&self, _: &Identity, _: StreamId, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn closed(&self, _: &Identity, _: StreamId) {}
}

impl One {
    fn refused(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let names = events.iter().filter_map(|event| match event {
            Event::Refused { names, .. } => Some(names),
            Event::Acknowledged { .. } => None,
        });
        names.flatten().map(|(name, _)| name.to_string()).collect()
    }
}

/// A control plane that can be stopped and started again at the same address.
struct ControlPlane {
    ca: Ca,
    tls: watch::Sender<Arc<rustls::ServerConfig>>,
    directory: Arc<One>,
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl ControlPlane {
    async fn start(resources: Resources) -> ControlPlane {
        let ca = Ca::new("ca");
        let Signed { cert, key } = ca.server();
        let config = server_config(&[ca.pem()], cert.as_bytes(), key.as_bytes()).unwrap();
        let mut control_plane = ControlPlane {
            ca,
            tls: watch::channel(config).0,
            directory: Arc::new(One {
                resources: watch::channel(Arc::new(resources)).0,
                events: Mutex::default(),
            }),
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
            running: None,
        };
        control_plane.run().await;
        control_plane
    }

    async fn run(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let (tls, directory) = (self.tls.subscribe(), self.directory.clone());
        let served = serve(listener, tls, directory, Options::default(), shutdown);
        let task = tokio::spawn(async move { served.await.unwrap() });
        self.running = Some((stop, task));
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        drop(stop);
        task.await.unwrap();
    }

    fn push(&self, resources: Resources) {
        self.directory.resources.send_replace(Arc::new(resources));
    }

    fn envoy(&self, binary: &std::path::Path) -> Envoy {
        Envoy::start(binary, &self.ca, &self.ca.client(&[ENVOY]), self.address)
    }
}

/// Resources by what they are to do.
#[derive(Default)]
struct Build(Resources);

impl Build {
    fn put(mut self, kind: Kind, name: &str, message: &impl Message, needs: &[&str]) -> Build {
        let body = message.encode_to_vec();
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let resource = Resource {
            version: hasher.finish(),
            body: body.into(),
            needs: needs.iter().copied().map(Arc::from).collect(),
        };
        self.0.of_mut(kind).insert(name.into(), resource);
        self
    }

    fn listener(self, name: &str, port: u16) -> Build {
        let router = hcm::HttpFilter {
            name: "router".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(
                "envoy.extensions.filters.http.router.v3.Router",
                &Router::default(),
            ))),
            ..Default::default()
        };
        let manager = hcm::HttpConnectionManager {
            stat_prefix: name.to_owned(),
            http_filters: vec![router],
            route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(
                hcm::Rds {
                    config_source: Some(ads()),
                    route_config_name: name.to_owned(),
                },
            )),
            ..Default::default()
        };
        let filter = listener::Filter {
            name: "http".to_owned(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(any(
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                &manager,
            ))),
        };
        let listener = listener::Listener {
            name: name.to_owned(),
            address: Some(address("127.0.0.1", port)),
            filter_chains: vec![listener::FilterChain {
                filters: vec![filter],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.put(Kind::Listener, name, &listener, &[])
    }

    fn routes(self, name: &str, action: route::route::Action, needs: &[&str]) -> Build {
        let route = route::Route {
            r#match: Some(route::RouteMatch {
                path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
                ..Default::default()
            }),
            action: Some(action),
            ..Default::default()
        };
        let table = route::RouteConfiguration {
            name: name.to_owned(),
            virtual_hosts: vec![route::VirtualHost {
                name: "all".to_owned(),
                domains: vec!["*".to_owned()],
                routes: vec![route],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.put(Kind::Routes, name, &table, needs)
    }

    fn direct(self, name: &str, body: &str) -> Build {
        let answer = route::DirectResponseAction {
            status: 200,
            body: Some(core::DataSource {
                specifier: Some(core::data_source::Specifier::InlineString(body.to_owned())),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.routes(name, route::route::Action::DirectResponse(answer), &[])
    }

    fn forward(self, name: &str, cluster: &str) -> Build {
        let forward = route::RouteAction {
            cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(
                cluster.to_owned(),
            )),
            ..Default::default()
        };
        self.routes(name, route::route::Action::Route(forward), &[cluster])
    }

    /// A cluster with endpoints of its own, and a time limit by which it can be changed.
    fn cluster(self, name: &str, port: u16, limit: u32) -> Build {
        let cluster = Cluster {
            name: name.to_owned(),
            connect_timeout: Some(protobuf::Duration {
                seconds: limit.into(),
                nanos: 0,
            }),
            cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
                cluster::DiscoveryType::Eds as i32,
            )),
            eds_cluster_config: Some(cluster::EdsClusterConfig {
                eds_config: Some(ads()),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.put(Kind::Cluster, name, &cluster, &[]).put(
            Kind::Endpoints,
            name,
            &assignment(name, "127.0.0.1", port),
            &[],
        )
    }

    /// A cluster that Envoy refuses: its address is none.
    fn bad_cluster(self, name: &str) -> Build {
        let cluster = Cluster {
            name: name.to_owned(),
            load_assignment: Some(assignment(name, "no address", 1)),
            ..Default::default()
        };
        self.put(Kind::Cluster, name, &cluster, &[])
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}

fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..Default::default()
    }
}

fn address(host: &str, port: u16) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

fn assignment(name: &str, host: &str, port: u16) -> endpoint::ClusterLoadAssignment {
    let one = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
            endpoint::Endpoint {
                address: Some(address(host, port)),
                ..Default::default()
            },
        )),
        ..Default::default()
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: vec![one],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn binary() -> Option<PathBuf> {
    let binary = real::binary();
    if binary.is_none() {
        println!("not run: no Envoy binary");
    }
    binary
}

fn answers(port: u16, body: &str) -> Option<()> {
    (get(port, "/")? == (200, body.to_owned())).then_some(())
}

fn assert_nothing_refused(envoy: &Envoy, control_plane: &ControlPlane) {
    let refused = envoy.stats("update_rejected");
    let count = |what: &str| {
        refused
            .iter()
            .filter(|(name, _)| name.contains(what))
            .count()
    };
    assert!(
        count(".cds.") >= 1 && count(".lds.") >= 1 && count(".rds.") >= 1,
        "{refused:?}"
    );
    assert!(refused.iter().all(|(_, value)| *value == 0), "{refused:?}");
    assert_eq!(control_plane.directory.refused(), [""; 0]);
}

/// Requests without a pause, until told to stop; counts those that were not answered well.
struct Load {
    stop: Arc<AtomicBool>,
    bad: Arc<Mutex<Vec<String>>>,
    good: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(port: u16) -> Load {
        let (stop, bad, good) =
            <(Arc<AtomicBool>, Arc<Mutex<Vec<String>>>, Arc<AtomicU64>)>::default();
        let thread = {
            let (stop, bad, good) = (stop.clone(), bad.clone(), good.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match get(port, "/") {
                        Some((200, _)) => {
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        other => bad.lock().unwrap().push(format!("{other:?}")),
                    }
                }
            })
        };
        Load {
            stop,
            bad,
            good,
            thread,
        }
    }

    fn assert_all_good(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        assert_eq!(*self.bad.lock().unwrap(), [""; 0]);
        let good = self.good.load(Ordering::Relaxed);
        println!("{good} requests were answered well, none badly");
        assert!(good > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_envoy_takes_a_listener_and_a_changed_table() {
    let Some(binary) = binary() else { return };
    let port = free_port();
    let build = || Build::default().listener("web", port);
    let control_plane = ControlPlane::start(build().direct("web", "one").0).await;
    let envoy = control_plane.envoy(&binary);
    let (_, took) = until("first answer", || answers(port, "one"));
    println!("served {took:?} after its start");
    control_plane.push(build().direct("web", "two").0);
    let (_, took) = until("second answer", || answers(port, "two"));
    println!("changed after {took:?}");
    assert_nothing_refused(&envoy, &control_plane);
    // Without a listener it is still an Envoy that has what it should.
    control_plane.push(Resources::default());
    until("end of the listener", || {
        get(port, "/").is_none().then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_clusters_fail_no_request() {
    let Some(binary) = binary() else { return };
    let (port, a, b) = (free_port(), backend("a"), backend("b"));
    let build = || Build::default().listener("web", port);
    let first = build().cluster("a", a, 5).forward("web", "a").0;
    let control_plane = ControlPlane::start(first).await;
    let envoy = control_plane.envoy(&binary);
    until("first answer", || answers(port, "a"));
    let load = Load::start(port);

    // A cluster that changes warms again, and gets its endpoints again to be done with that.
    control_plane.push(build().cluster("a", a, 6).forward("web", "a").0);
    let (_, took) = until("changed cluster", || {
        let dump = envoy.admin("/config_dump?resource=dynamic_active_clusters")?;
        dump.contains(r#""connect_timeout": "6s""#).then_some(())
    });
    println!("a changed cluster was warm after {took:?}");
    assert!(
        took < Duration::from_secs(5),
        "it waited for its time limit"
    );

    // From one cluster to another and back; the one that is left goes.
    for (name, port_of, other) in [("b", b, "a"), ("a", a, "b")].repeat(5) {
        control_plane.push(build().cluster(name, port_of, 5).forward("web", name).0);
        until("moved route", || answers(port, name));
        until("end of the cluster", || {
            let clusters = envoy.admin("/clusters")?;
            (!clusters.contains(&format!("\n{other}::"))).then_some(())
        });
    }
    load.assert_all_good();
    assert_nothing_refused(&envoy, &control_plane);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_cluster_among_many_is_found_and_hinders_nothing() {
    let Some(binary) = binary() else { return };
    let (port, a) = (free_port(), backend("a"));
    let mut build = Build::default().listener("web", port).bad_cluster("bad");
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        build = build.cluster(name, a, 5);
    }
    let control_plane = ControlPlane::start(build.forward("web", "g").0).await;
    let _envoy = control_plane.envoy(&binary);
    until("answer", || answers(port, "a"));
    until("refusal", || {
        (!control_plane.directory.refused().is_empty()).then_some(())
    });
    assert_eq!(control_plane.directory.refused(), ["bad"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_was_away_sends_what_has_changed() {
    let Some(binary) = binary() else { return };
    let (port, a, b) = (free_port(), backend("a"), backend("b"));
    let build = || Build::default().listener("web", port);
    let first = || {
        build()
            .cluster("a", a, 5)
            .cluster("x", a, 5)
            .forward("web", "a")
            .0
    };
    let mut control_plane = ControlPlane::start(first()).await;
    let envoy = control_plane.envoy(&binary);
    until("first answer", || answers(port, "a"));
    let load = Load::start(port);

    // Nothing has changed: nothing but empty answers to the wildcards.
    control_plane.stop().await;
    control_plane.directory.events.lock().unwrap().clear();
    control_plane.run().await;
    let held = |kind| {
        let events = control_plane.directory.events.lock().unwrap();
        events.iter().any(|event| match event {
            Event::Acknowledged { kind: k, names, .. } => *k == kind && !names.is_empty(),
            Event::Refused { .. } => false,
        })
    };
    until("reconnect", || {
        (held(Kind::Cluster) && held(Kind::Routes)).then_some(())
    });
    until("answers to the wildcards", || {
        let events = control_plane.directory.events.lock().unwrap();
        let empty = |event: &&Event| match event {
            Event::Acknowledged { names, .. } => names.is_empty(),
            Event::Refused { .. } => false,
        };
        (events.iter().filter(empty).count() == 2).then_some(())
    });
    let updates: u64 = envoy
        .stats("update_success")
        .iter()
        .map(|(_, count)| count)
        .sum();
    println!("{updates} updates taken in all");

    // A cluster has changed, another is gone, and the route leads to a third.
    control_plane.stop().await;
    control_plane.push(
        build()
            .cluster("a", a, 6)
            .cluster("b", b, 5)
            .forward("web", "b")
            .0,
    );
    control_plane.run().await;
    until("moved route", || answers(port, "b"));
    until("end of the cluster", || {
        let clusters = envoy.admin("/clusters")?;
        (!clusters.contains("\nx::")).then_some(())
    });
    let (_, took) = until("changed cluster", || {
        let dump = envoy.admin("/config_dump?resource=dynamic_active_clusters")?;
        dump.contains(r#""connect_timeout": "6s""#).then_some(())
    });
    assert!(
        took < Duration::from_secs(5),
        "it waited for its time limit"
    );
    load.assert_all_good();
    assert_nothing_refused(&envoy, &control_plane);
}
