//! Translation is keyed: with a memo it gives the same as without, and recomputes only what changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use postern_refs::Snapshot;
use postern_translate::translate;
use proptest::prelude::*;
use support::*;

fn thousand(hosts: bool) -> Snapshot {
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, vec![listener("http", 80, None, None)]);
    for number in 0..1_000 {
        let host = if hosts {
            format!("h{number}.example")
        } else {
            "one.example".into()
        };
        put_service(&mut snapshot, &format!("s{number}"), &["10.0.0.1"]);
        let backends = vec![
            backend(&format!("s{number}"), 1),
            backend(&format!("s{}", (number + 1) % 1_000), 1),
        ];
        put_route(
            &mut snapshot,
            &format!("r{number}"),
            route(&[&host], vec![rule(&format!("/p{number}"), backends)]),
        );
    }
    snapshot
}

#[test]
fn one_changed_route_of_a_thousand_recomputes_one_entry() {
    for hosts in [true, false] {
        let mut snapshot = thousand(hosts);
        let entitlement = entitlement(&[listener("http", 80, None, None)]);
        let mut memo = memo();
        let first = translate(&snapshot, &entitlement, &mut memo);
        assert_eq!(memo.work().entries, 1_000);
        let host = if hosts { "h500.example" } else { "one.example" };
        put_route(
            &mut snapshot,
            "r500",
            route(&[host], vec![rule("/changed", vec![backend("s500", 1)])]),
        );
        let second = translate(&snapshot, &entitlement, &mut memo);
        let work = *memo.work();
        assert_eq!(
            (work.frames, work.routes, work.entries, work.hosts),
            (0, 1, 1, 1)
        );
        assert!(work.clusters <= 2, "{work:?}");
        let (before, after) = (&first.proxies["default"], &second.proxies["default"]);
        assert!(Arc::ptr_eq(&before.clusters, &after.clusters));
        let (before, after) = (
            before.tables.values().next().unwrap(),
            after.tables.values().next().unwrap(),
        );
        let kept = before
            .hosts
            .iter()
            .flat_map(|host| &host.entries)
            .filter(|entry| {
                after
                    .hosts
                    .iter()
                    .flat_map(|host| &host.entries)
                    .any(|other| Arc::ptr_eq(entry, other))
            });
        assert_eq!(kept.count(), 999);
    }
}

#[test]
fn an_endpoint_that_moves_touches_no_route() {
    let mut snapshot = thousand(true);
    let entitlement = entitlement(&[listener("http", 80, None, None)]);
    let mut memo = memo();
    let first = translate(&snapshot, &entitlement, &mut memo);
    put_slice(&mut snapshot, "s7", &["10.0.0.9"]);
    let second = translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(
        (memo.work().routes, memo.work().hosts, memo.work().clusters),
        (0, 0, 1)
    );
    assert!(Arc::ptr_eq(
        &first.proxies["default"].tables,
        &second.proxies["default"].tables
    ));
    let id = postern_model::ClusterId("team/s7/80".into());
    assert_eq!(
        second.proxies["default"].endpoints[&id].endpoints[0]
            .address
            .to_string(),
        "10.0.0.9"
    );
}

#[test]
fn nothing_changed_means_nothing_done() {
    let snapshot = thousand(false);
    let entitlement = entitlement(&[listener("http", 80, None, None)]);
    let mut memo = memo();
    let first = translate(&snapshot, &entitlement, &mut memo);
    let second = translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(*memo.work(), postern_translate::Work::default());
    assert!(Arc::ptr_eq(&first.routes, &second.routes));
    assert!(Arc::ptr_eq(&first.gateways, &second.gateways));
}

/// What a tenant may do next.
#[derive(Clone, Debug)]
enum Step {
    Route {
        name: u8,
        hosts: Vec<u8>,
        paths: Vec<u8>,
        backends: Vec<(u8, u8)>,
        section: Option<u8>,
        unsupported: Option<u8>,
    },
    DropRoute(u8),
    Service(u8, u8),
    DropService(u8),
    Listeners(Vec<(u8, u8)>),
}

fn step() -> impl Strategy<Value = Step> {
    let hosts = proptest::collection::vec(0..5u8, 0..3);
    let backends = proptest::collection::vec((0..4u8, 0..3u8), 0..3);
    prop_oneof![
        4 => (0..6u8, hosts, proptest::collection::vec(0..6u8, 1..3), backends, proptest::option::of(0..3u8), proptest::option::weighted(0.2, 0..3u8))
            .prop_map(|(name, hosts, paths, backends, section, unsupported)| Step::Route { name, hosts, paths, backends, section, unsupported }),
        1 => (0..6u8).prop_map(Step::DropRoute),
        2 => (0..4u8, 0..4u8).prop_map(|(name, address)| Step::Service(name, address)),
        1 => (0..4u8).prop_map(Step::DropService),
        1 => proptest::collection::vec((0..2u8, 0..5u8), 1..4).prop_map(Step::Listeners),
    ]
}

const HOSTS: [&str; 5] = [
    "a.example",
    "*.example",
    "b.a.example",
    "*.a.example",
    "other",
];
const PATHS: [&str; 6] = ["/", "/a", "/a/", "/a/b", "/ab", "bad"];

fn apply(
    snapshot: &mut Snapshot,
    listeners: &mut Vec<postern_refs::objects::Listener>,
    step: &Step,
) {
    match step {
        Step::Route {
            name,
            hosts,
            paths,
            backends,
            section,
            unsupported,
        } => {
            let hosts: Vec<&str> = hosts.iter().map(|host| HOSTS[usize::from(*host)]).collect();
            let backends: Vec<_> = backends
                .iter()
                .map(|(name, weight)| backend(&format!("s{name}"), (*weight).into()))
                .collect();
            let rules = paths
                .iter()
                .map(|path| rule(PATHS[usize::from(*path)], backends.clone()))
                .collect();
            let mut made = route(&hosts, rules);
            made.parents[0].section = section.map(|number| format!("l{number}").into());
            let name = format!("r{name}");
            put_route(snapshot, &name, made);
            if let Some(rule) = unsupported {
                let routes = Arc::make_mut(&mut snapshot.http_routes);
                let object = Arc::make_mut(routes.get_mut(&key(&name)).unwrap());
                object.unsupported = vec![postern_refs::FieldPath::parse(&format!(
                    "spec.rules[{rule}].timeouts"
                ))];
            }
        }
        Step::DropRoute(name) => {
            Arc::make_mut(&mut snapshot.http_routes).remove(&key(&format!("r{name}")));
        }
        Step::Service(name, address) => put_service(
            snapshot,
            &format!("s{name}"),
            &[&format!("10.0.0.{address}")],
        ),
        Step::DropService(name) => {
            Arc::make_mut(&mut snapshot.services).remove(&key(&format!("s{name}")));
        }
        Step::Listeners(wanted) => {
            *listeners = wanted
                .iter()
                .enumerate()
                .map(|(number, (port, host))| {
                    listener(
                        &format!("l{number}"),
                        80 + u16::from(*port),
                        Some(HOSTS[usize::from(*host)]),
                        None,
                    )
                })
                .collect();
            put_gateway(snapshot, listeners.clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_memo_changes_the_speed_and_nothing_else(steps in proptest::collection::vec(step(), 1..25)) {
        let mut snapshot = Snapshot::default();
        let mut listeners = vec![listener("l0", 80, None, None)];
        put_gateway(&mut snapshot, listeners.clone());
        let mut memo = memo();
        for step in steps {
            apply(&mut snapshot, &mut listeners, &step);
            let entitlement = entitlement(&listeners);
            let kept = translate(&snapshot, &entitlement, &mut memo);
            let made = fresh(&snapshot, &entitlement);
            prop_assert_eq!(&kept.proxies, &made.proxies, "after {:?}", step);
            prop_assert_eq!(&kept.routes, &made.routes);
            prop_assert_eq!(&kept.gateways, &made.gateways);
            let proxy = &kept.proxies["default"];
            for table in proxy.tables.values() {
                let hosts: Vec<_> = table.hosts.iter().map(|host| &host.host).collect();
                prop_assert!(hosts.windows(2).all(|pair| pair[0] < pair[1]), "hosts are sorted, none twice");
                for host in &table.hosts {
                    prop_assert!(host.entries.windows(2).all(|pair| pair[0].precedence < pair[1].precedence));
                }
            }
            for table in proxy.tables.values() {
                for entry in table.hosts.iter().flat_map(|host| &host.entries) {
                    if let postern_model::Action::Forward(backends) = &entry.action {
                        for share in backends {
                            if let postern_model::Target::Cluster(id) = &share.target {
                                prop_assert!(proxy.clusters.contains_key(id), "{id:?} is missing");
                            }
                        }
                    }
                }
            }
        }
    }
}
