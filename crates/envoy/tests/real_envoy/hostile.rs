//! Random and hostile tables: Envoy refuses none of them.

use std::sync::Arc;

use postern_model::{
    Action, Backend, ClusterId, HeaderMatch, Host, Match, PathMatch, PathRewrite, QueryMatch,
    Redirect, RouteEntry, TableId, Target, ValueMatch, VirtualHost,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::fixtures::{entry, host, path, put_table, status, table, to};
use crate::routing::with_backends;
use crate::world::World;

/// Text of good and bad kinds.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,8}",
        2 => "/[a-z]{1,4}(/[a-z%.;~-]{1,4}){0,3}",
        2 => "[ -~]{0,12}",
        1 => "\\PC{0,6}",
        1 => prop::sample::select(vec![
            "", "/", "//", "/..", "\0", "\n", "\r\nx: y", "\"", "';}", "%", "%00", "%REQ(host)%",
            "*", "*.", "*foo", ":path", "host", ":", "{}", "\\1", "$1", "\u{7f}", "\u{202e}", "é",
            "/a?b", "/a#b", "/%zz", "(((", "[", "content-length", "x_y",
        ]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["x", "/y"]).prop_map(|text| text.repeat(2000)),
    ]
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let text = prop_oneof![3 => "/[a-z]{1,4}(/[a-z%.;~-]{1,4}){0,3}", 1 => text()];
    (any::<bool>(), text).prop_map(|(exact, text)| {
        if exact {
            PathMatch::Exact(text.into())
        } else {
            PathMatch::Prefix(text.into())
        }
    })
}

fn matcher() -> impl Strategy<Value = Match> {
    let method = prop::option::of(prop_oneof![Just("GET".to_owned()), text()]);
    let pairs = || prop::collection::vec((text(), text()), 0..3);
    (path_match(), method, pairs(), pairs()).prop_map(|(path, method, headers, query)| Match {
        path,
        method: method.map(Into::into),
        headers: headers
            .into_iter()
            .map(|(name, value)| HeaderMatch {
                name: name.into(),
                value: ValueMatch::Exact(value.into()),
            })
            .collect(),
        query: query
            .into_iter()
            .map(|(name, value)| QueryMatch {
                name: name.into(),
                value: ValueMatch::Exact(value.into()),
            })
            .collect(),
    })
}

fn action() -> impl Strategy<Value = Action> {
    let target = prop_oneof![
        3 => text().prop_map(|name| Target::Cluster(ClusterId(name.into()))),
        1 => text().prop_map(|why| Target::Broken(why.into())),
    ];
    let weight = prop_oneof![0..3_u32, any::<u32>()];
    let backends = prop::collection::vec(
        (weight, target).prop_map(|(weight, target)| Backend { weight, target }),
        0..4,
    );
    let some = || prop::option::of(text());
    let rewrite = prop::option::of((any::<bool>(), text()).prop_map(|(full, text)| {
        if full {
            PathRewrite::Full(text.into())
        } else {
            PathRewrite::Prefix(text.into())
        }
    }));
    let code = prop_oneof![Just(302), any::<u16>()];
    let scheme = prop_oneof![Just(Some("https".to_owned())), some()];
    let redirect = (
        scheme,
        some(),
        prop::option::of(any::<u16>()),
        rewrite,
        code,
    )
        .prop_map(|(scheme, host, port, path, status)| {
            Action::Redirect(Redirect {
                scheme: scheme.map(Into::into),
                host: host.map(Into::into),
                port,
                path,
                status,
            })
        });
    let fixed = prop_oneof![200..600_u16, any::<u16>()].prop_map(status);
    prop_oneof![backends.prop_map(Action::Forward), redirect, fixed]
}

fn hosts() -> impl Strategy<Value = Vec<Arc<VirtualHost>>> {
    let name = prop_oneof![
        3 => "([*][.])?[a-z]{1,3}[.]example".prop_map(|name| Host::parse(&name)),
        1 => text().prop_map(|name| Host::Exact(name.into())),
        1 => text().prop_map(|name| Host::Wildcard(name.into())),
        1 => Just(Host::Any),
    ];
    let entry = (matcher(), action(), text())
        .prop_map(|(matcher, action, name)| -> Arc<RouteEntry> { entry(&name, matcher, action) });
    let entries = prop::collection::vec(entry, 0..6);
    let host = (name, entries).prop_map(|(host, entries)| Arc::new(VirtualHost { host, entries }));
    prop::collection::vec(host, 0..8)
}

/// Tables that break all of the model's promises go in, one after the other. Envoy acknowledges
/// each, and a plain route in the same table serves all the while.
#[tokio::test]
async fn no_table_is_refused() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a"]).await;
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let canary = host(
        "canary.test",
        vec![entry("canary", path("/*"), to("ns/a/80"))],
    );
    let (mut sent, mut refused) = (0, 0);
    for round in 0..120 {
        let mut hosts = hosts().new_tree(&mut runner).unwrap().current();
        hosts.push(Arc::clone(&canary));
        sent += hosts.iter().map(|host| host.entries.len()).sum::<usize>();
        let mut built = (*table("web", Vec::new())).clone();
        built.hosts = hosts;
        put_table(&mut proxy, Arc::new(built));
        world.apply(&proxy).await;
        refused += world.encoder().refused().len();
        let answer = world.get("canary.test", "/", &[]).await;
        assert_eq!(answer.backend(), "a", "round {round}: {answer:?}");
    }
    // The tables were neither all good nor all bad.
    assert!(
        refused * 10 > sent && refused * 10 < sent * 9,
        "{refused} of {sent}"
    );
    world.assert_nothing_refused().await;
}

/// Names of the model's other parts, hostile too.
#[tokio::test]
async fn no_hostile_name_is_refused() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a"]).await;
    let canary = host(
        "canary.test",
        vec![entry("canary", path("/*"), to("ns/a/80"))],
    );
    put_table(&mut proxy, table("web", vec![canary]));
    let names = [
        "\"';} %REQ(host)%",
        "é\u{202e}",
        "\0",
        "\n",
        "",
        "a b",
        "../..",
        "!broken",
        "x.y.z",
        "type.googleapis.com/x",
        "*",
        "{{a}}",
    ];
    for (index, name) in names.iter().enumerate() {
        let address = std::net::SocketAddr::new(world.address, 9);
        crate::fixtures::put_cluster(&mut proxy, name, &[address]);
        let id = format!("table {name}");
        put_table(
            &mut proxy,
            table(&id, vec![host("*", vec![entry("r", path("/"), to(name))])]),
        );
        let port = 11_000 + u16::try_from(index).unwrap();
        let listener = crate::fixtures::listener(name, port, &id, postern_model::Trust::Nothing);
        crate::fixtures::put_listener(&mut proxy, listener);
    }
    // Tables that no listener asks for are not fetched: those of the listeners that are refused.
    for name in ["\0", "\n", "", "*"] {
        Arc::make_mut(&mut proxy.tables).remove(&TableId(format!("table {name}").into()));
    }
    world.apply(&proxy).await;
    assert!(
        world.encoder().refused().len() >= 6,
        "{:?}",
        world.encoder().refused()
    );
    assert_eq!(world.get("canary.test", "/", &[]).await.backend(), "a");
    world.assert_nothing_refused().await;
}

/// A match that was sent matches what it says, also where it is odd.
#[tokio::test]
async fn odd_text_matches_itself() {
    use crate::fixtures::{with_header, with_query};
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a"]).await;
    let entries = vec![
        entry(
            "q",
            with_query(path("/q"), "k\"[]", "%00'\"{}=+;\\1"),
            status(201),
        ),
        entry(
            "h",
            with_header(path("/h"), "x-odd", "\"';} %REQ(host)% \\1 é"),
            status(202),
        ),
        entry("p", path("/p/%25%REQ;(x)'$"), status(203)),
        entry("s", path("/s/%20*"), status(204)),
    ];
    put_table(&mut proxy, table("web", vec![host("*", entries)]));
    world.apply(&proxy).await;
    assert_eq!(world.encoder().refused(), []);
    for (path, headers, expected) in [
        ("/q?a&k\"[]=%00'\"{}=+;\\1&b", &[][..], 201),
        ("/q?k\"[]=x", &[], 404),
        ("/h", &[("x-odd", "\"';} %REQ(host)% \\1 é")], 202),
        ("/p/%25%REQ;(x)'$", &[], 203),
        ("/s/%20/x", &[], 204),
        ("/s/%20x", &[], 404),
    ] {
        assert_eq!(
            world.get("a.example", path, headers).await.status,
            expected,
            "{path}"
        );
    }
    world.assert_nothing_refused().await;
}
