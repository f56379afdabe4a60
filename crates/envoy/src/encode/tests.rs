use envoy_types::pb::envoy::config::cluster::v3 as cl;
use envoy_types::pb::envoy::config::endpoint::v3 as ep;
use postern_model::{Host, ListenerKind, Material, Pem, Table, TlsChain, Trust};

use super::*;
use crate::fixtures::{
    cluster, entry, host, listener, origin, path, put, put_cluster, put_listener, put_table, table,
    to,
};

fn address(text: &str) -> std::net::SocketAddr {
    text.parse().unwrap()
}

fn secret(name: &str) -> Arc<Secret> {
    secret_of(name, "-----BEGIN CERTIFICATE-----\n")
}

fn secret_of(name: &str, chain: &str) -> Arc<Secret> {
    Arc::new(Secret {
        id: SecretId(name.into()),
        material: Material::Inline {
            chain: Pem(chain.into()),
            key: Pem("-----BEGIN PRIVATE KEY-----\nverysecret\n".into()),
        },
        origin: origin("Secret", name),
    })
}

fn tls(name: &str, certificate: &str, id: &str) -> Arc<Listener> {
    Arc::new(Listener {
        kind: ListenerKind::Https {
            chains: vec![TlsChain {
                server_name: Host::parse("a.example"),
                certificates: vec![SecretId(certificate.into())],
                table: TableId(id.into()),
                origin: origin("Gateway", name),
            }],
        },
        ..(*listener(name, 8443, id, Trust::Nothing)).clone()
    })
}

fn simple_table(id: &str, cluster: &str) -> Arc<Table> {
    table(
        id,
        vec![host("a.example", vec![entry("r", path("/*"), to(cluster))])],
    )
}

/// One of each.
fn proxy() -> Proxy {
    let mut proxy = Proxy::default();
    put_table(&mut proxy, simple_table("t", "ns/a/80"));
    put_cluster(&mut proxy, "ns/a/80", &[address("10.0.0.1:8080")]);
    put_listener(&mut proxy, listener("plain", 8080, "t", Trust::Nothing));
    put_listener(&mut proxy, tls("tls", "ns/cert", "t"));
    put(
        &mut proxy.secrets,
        SecretId("ns/cert".into()),
        secret("ns/cert"),
    );
    proxy
}

fn names(resources: &Resources, kind: Kind) -> Vec<String> {
    resources.of(kind).keys().map(ToString::to_string).collect()
}

fn assert_equal(left: &Resources, right: &Resources) {
    for kind in Kind::ALL {
        assert_eq!(names(left, kind), names(right, kind));
        for (name, resource) in left.of(kind) {
            let other = right.get(kind, name).unwrap();
            assert_eq!(resource.version, other.version, "{kind:?} {name}");
            assert_eq!(resource.body, other.body, "{kind:?} {name}");
            assert_eq!(resource.needs, other.needs, "{kind:?} {name}");
        }
    }
}

#[test]
fn the_same_state_again_costs_nothing_and_shares_everything() {
    let proxy = proxy();
    let mut encoder = Encoder::default();
    let first = encoder.encode(&proxy);
    let expected = Work {
        entries: 1,
        hosts: 1,
        tables: 1,
        clusters: 1,
        endpoints: 1,
        listeners: 2,
        secrets: 1,
    };
    assert_eq!(encoder.work(), expected);
    assert_eq!(encoder.refused(), []);
    let second = encoder.encode(&proxy);
    assert_eq!(encoder.work(), Work::default());
    assert!(Kind::ALL.iter().all(|kind| second.same(&first, *kind)));
    assert_equal(&Encoder::default().encode(&proxy), &first);
}

#[test]
fn a_change_touches_its_own_kind_only() {
    let mut proxy = proxy();
    let mut encoder = Encoder::default();
    let first = encoder.encode(&proxy);

    put_cluster(&mut proxy, "ns/a/80", &[address("10.0.0.2:8080")]);
    let second = encoder.encode(&proxy);
    let endpoints = Work {
        endpoints: 1,
        ..Work::default()
    };
    assert_eq!(encoder.work(), endpoints);
    for kind in Kind::ALL {
        assert_eq!(
            second.same(&first, kind),
            kind != Kind::Endpoints,
            "{kind:?}"
        );
    }

    put_table(&mut proxy, simple_table("t", "ns/b/80"));
    let third = encoder.encode(&proxy);
    assert_eq!((encoder.work().entries, encoder.work().listeners), (1, 0));
    assert_eq!(
        &*third.get(Kind::Routes, "t").unwrap().needs,
        [Arc::from("ns/b/80")]
    );
    assert_equal(&Encoder::default().encode(&proxy), &third);
}

#[test]
fn removals_leave_what_a_new_encoder_would_make() {
    let full = proxy();
    let mut encoder = Encoder::default();
    encoder.encode(&full);
    let mut less = full.clone();
    Arc::make_mut(&mut less.listeners).remove("plain");
    Arc::make_mut(&mut less.clusters).clear();
    let result = encoder.encode(&less);
    assert_eq!(names(&result, Kind::Endpoints), [""; 0]);
    assert_equal(&Encoder::default().encode(&less), &result);
    let empty = encoder.encode(&Proxy::default());
    assert!(Kind::ALL.iter().all(|kind| empty.of(*kind).is_empty()));
    assert_equal(&encoder.encode(&full), &Encoder::default().encode(&full));
}

#[test]
fn each_cluster_has_endpoints_if_only_none() {
    let mut proxy = Proxy::default();
    put(&mut proxy.clusters, ClusterId("a".into()), cluster("a"));
    let mut encoder = Encoder::default();
    let resources = encoder.encode(&proxy);
    let body = &resources.get(Kind::Endpoints, "a").unwrap().body;
    let none = ep::ClusterLoadAssignment::decode(&**body).unwrap();
    assert_eq!(none.cluster_name, "a");
    assert!(none.endpoints[0].lb_endpoints.is_empty());

    put_cluster(&mut proxy, "a", &[address("10.0.0.1:80")]);
    let resources = encoder.encode(&proxy);
    let body = &resources.get(Kind::Endpoints, "a").unwrap().body;
    let some = ep::ClusterLoadAssignment::decode(&**body).unwrap();
    assert_eq!(some.endpoints[0].lb_endpoints.len(), 1);

    Arc::make_mut(&mut proxy.endpoints).clear();
    let resources = encoder.encode(&proxy);
    assert_equal(&resources, &Encoder::default().encode(&proxy));
}

#[test]
fn a_listener_comes_and_goes_with_what_it_refers_to() {
    let full = proxy();
    let mut encoder = Encoder::default();
    let mut without = full.clone();
    Arc::make_mut(&mut without.secrets).clear();
    let resources = encoder.encode(&without);
    assert_eq!(names(&resources, Kind::Listener), ["plain"]);
    assert_eq!(encoder.refused().len(), 1);
    assert_eq!(&*encoder.refused()[0].0.name, "tls");

    let resources = encoder.encode(&full);
    assert_eq!(names(&resources, Kind::Listener), ["plain", "tls"]);
    assert_eq!(encoder.refused(), []);

    let mut no_table = full.clone();
    Arc::make_mut(&mut no_table.tables).clear();
    let resources = encoder.encode(&no_table);
    assert_eq!(names(&resources, Kind::Listener), [""; 0]);
    assert_eq!(encoder.refused().len(), 2);
}

#[test]
fn a_bad_item_is_told_by_its_origin_until_it_is_good() {
    let mut proxy = proxy();
    put_cluster(&mut proxy, "ns/evil/80", &[address("127.0.0.1:9901")]);
    put(
        &mut proxy.secrets,
        SecretId("ns/junk".into()),
        secret_of("ns/junk", "junk"),
    );
    let mut encoder = Encoder::default();
    let resources = encoder.encode(&proxy);
    let told: Vec<&str> = encoder.refused().iter().map(|(at, _)| &*at.name).collect();
    assert_eq!(told, ["ns/evil/80", "ns/junk"]);
    assert_eq!(names(&resources, Kind::Secret), ["ns/cert"]);
    let shown = format!("{resources:?} {:?}", encoder.refused());
    assert!(!shown.contains("verysecret"));

    put_cluster(&mut proxy, "ns/evil/80", &[address("10.0.0.9:80")]);
    put(
        &mut proxy.secrets,
        SecretId("ns/junk".into()),
        secret("ns/junk"),
    );
    encoder.encode(&proxy);
    assert_eq!(encoder.refused(), []);
}

#[test]
fn options_decide_address_and_loopback() {
    let mut proxy = proxy();
    put_cluster(&mut proxy, "ns/a/80", &[address("127.0.0.1:8080")]);
    let options = Options {
        bind: IpAddr::from([127, 0, 0, 1]),
        allow_loopback: true,
    };
    let mut encoder = Encoder::new(options);
    let resources = encoder.encode(&proxy);
    assert_eq!(encoder.refused(), []);
    let default = Encoder::default().encode(&proxy);
    let version = |from: &Resources| from.get(Kind::Listener, "plain").unwrap().version;
    assert_ne!(version(&resources), version(&default));
}

#[test]
fn a_cluster_encodes_the_same_each_time() {
    let model = cluster("ns/a/80");
    let bytes = || crate::cluster::cluster(&model).encode_to_vec();
    let first = bytes();
    assert!((0..50).all(|_| bytes() == first));
    assert_eq!(cl::Cluster::decode(&*first).unwrap().name, "ns/a/80");
}
