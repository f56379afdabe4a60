//! Over quota the newest are refused, and what serves goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use postern_refs::objects::Gateway;
use postern_refs::status::Truth;
use postern_refs::{Body, Snapshot};
use postern_translate::{Translation, translate};
use support::*;

/// The names of routes that are accepted, and of those that are over the quota.
fn sorted(translation: &Translation, names: &[&str]) -> (String, String) {
    let (mut taken, mut over) = (String::new(), String::new());
    for name in names {
        match route_condition(translation, name, "Accepted").unwrap() {
            (Truth::True, ..) => taken += name,
            (_, reason, message) => {
                assert_eq!(reason, "QuotaExceeded");
                assert!(message.contains("allows 2 routes"), "{message}");
                over += name;
            }
        }
    }
    (taken, over)
}

fn served(translation: &Translation) -> usize {
    let table = translation.proxies["default"].tables.values().next();
    table.map_or(0, |table| {
        table.hosts.iter().map(|host| host.entries.len()).sum()
    })
}

#[test]
fn the_newest_routes_are_refused_until_there_is_room() {
    let listeners = vec![listener("http", 80, None, None)];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, listeners.clone());
    put_service(&mut snapshot, "good", &["10.0.0.1"]);
    let mut entitlement = entitlement(&listeners);
    entitlement.quotas.routes = Some(2);
    let body = || route(&["h.example"], vec![rule("/", vec![backend("good", 1)])]);
    let put = |snapshot: &mut Snapshot, name: &str, created: i64| {
        let mut object = object("HTTPRoute", name, created, body());
        if let Body::Valid(route) = &mut Arc::get_mut(&mut object).unwrap().body {
            route.rules[0].matches[0].path = format!("/{name}").into();
        }
        Arc::make_mut(&mut snapshot.http_routes).insert(key(name), object);
    };
    let mut memo = memo();
    put(&mut snapshot, "b", 1);
    put(&mut snapshot, "a", 2);
    let two = translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(sorted(&two, &["a", "b"]), ("ab".into(), String::new()));

    // Of the same age the name decides; a route of nobody's Gateway takes no room.
    put(&mut snapshot, "c", 2);
    let mut stranger = route(&["h.example"], vec![]);
    stranger.parents[0].name = "another".into();
    Arc::make_mut(&mut snapshot.http_routes)
        .insert(key("0"), object("HTTPRoute", "0", 0, stranger));
    let three = translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(sorted(&three, &["a", "b", "c"]), ("ab".into(), "c".into()));
    assert_eq!(served(&three), 2);
    assert_eq!(three.gateways[&key("gw")].listeners[0].attached, 2);
    assert_eq!(
        route_condition(&three, "c", "ResolvedRefs").unwrap().0,
        Truth::True
    );

    // An older one comes: the newest that served must yield. A change of a refused one serves nothing.
    put(&mut snapshot, "d", 0);
    put(&mut snapshot, "c", 2);
    let four = translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(
        sorted(&four, &["a", "b", "c", "d"]),
        ("bd".into(), "ac".into())
    );

    // Room again: the next in line is served, which nobody touched.
    Arc::make_mut(&mut snapshot.http_routes).remove(&key("b"));
    let next = translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(sorted(&next, &["a", "c", "d"]), ("ad".into(), "c".into()));
    assert_eq!(served(&next), 2);
    assert_eq!(memo.work().routes, 1, "the one that came");

    entitlement.quotas.routes = None;
    let all = translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(
        sorted(&all, &["a", "c", "d"]),
        ("acd".into(), String::new())
    );
    assert_eq!(served(&all), 3);
}

#[test]
fn listeners_of_all_gateways_count_and_the_oldest_gateway_has_its_own_first() {
    let listeners = vec![
        listener("one", 80, None, None),
        listener("two", 8080, None, None),
    ];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, listeners.clone());
    let mut entitlement = entitlement(&listeners);
    // A Gateway of a name that comes first, made later.
    let mut second = entitlement.gateways[0].clone();
    second.name = "a".into();
    second.uid = "Gateway-a".into();
    entitlement.gateways.insert(0, second);
    let gateway = Gateway {
        class: "postern".into(),
        listeners,
        parameters: None,
    };
    Arc::make_mut(&mut snapshot.gateways).insert(key("a"), object("Gateway", "a", 5, gateway));
    entitlement.quotas.listeners = Some(3);
    let translation = translate(&snapshot, &entitlement, &mut memo());
    let over = |name: &str| -> Vec<bool> {
        let listeners = translation.gateways[&key(name)].listeners.iter();
        listeners
            .map(|listener| {
                let mut problems = listener.problems.iter();
                problems.any(|problem| {
                    problem
                        .message
                        .contains("allows 3 listeners in all Gateways")
                })
            })
            .collect()
    };
    assert_eq!(over("gw"), [false, false]);
    assert_eq!(over("a"), [false, true]);
}
