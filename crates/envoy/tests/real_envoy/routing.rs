//! Matches, precedence, weights, and changes of a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_model::{Action, ClusterId, Proxy, RouteEntry, Trust, Upstream};

use crate::fixtures::{
    broken, cluster, entry, host, listener, path, put, put_cluster, put_listener, put_table, share,
    status, table, to, with_header, with_method, with_query,
};
use crate::world::{PORT, World, backend};

/// Clusters `ns/a/80` and so on, each with a backend of its letter.
pub async fn with_backends(world: &World, names: &[&'static str]) -> Proxy {
    let mut proxy = Proxy::default();
    for name in names {
        let address = backend(name, world.address).await;
        put_cluster(&mut proxy, &format!("ns/{name}/80"), &[address]);
    }
    put_listener(&mut proxy, listener("web", PORT, "web", Trust::Nothing));
    proxy
}

/// Puts entries on any host.
fn serve(proxy: &mut Proxy, entries: Vec<Arc<RouteEntry>>) {
    put_table(proxy, table("web", vec![host("*", entries)]));
}

/// Who answers: a backend, or a status.
async fn who(world: &World, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let answer = world.request(method, "a.example", path, headers).await;
    match answer.backend() {
        "none" => answer.status.to_string(),
        backend => backend.to_owned(),
    }
}

#[tokio::test]
async fn the_most_specific_match_wins() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a", "b", "c", "d", "e", "f"]).await;
    serve(
        &mut proxy,
        vec![
            entry("a", path("/*"), to("ns/a/80")),
            entry("b", path("/foo*"), to("ns/b/80")),
            entry("c", path("/foo/bar"), to("ns/c/80")),
            entry("d", with_method(path("/foo*"), "POST"), to("ns/d/80")),
            entry(
                "e",
                with_header(path("/foo*"), "x-version", "2"),
                to("ns/e/80"),
            ),
            entry(
                "f",
                with_query(path("/foo*"), "debug", "yes"),
                to("ns/f/80"),
            ),
            entry("g", path("/gone"), status(410)),
            entry("root", path("/"), status(202)),
        ],
    );
    world.apply(&proxy).await;
    for (request, headers, expected) in [
        ("GET /", &[][..], "202"),
        ("GET /?x", &[], "202"),
        ("GET //", &[], "202"),
        ("GET ///", &[], "202"),
        ("GET /x/..//", &[], "202"),
        ("GET /x/.", &[], "a"),
        ("GET /foobar", &[], "a"),
        ("GET /foo", &[], "b"),
        ("GET /foo/", &[], "b"),
        ("GET /foo?x=/", &[], "b"),
        ("GET /foo/x", &[], "b"),
        ("GET /foo/bar", &[], "c"),
        ("GET /foo/bar?x", &[], "c"),
        ("GET /foo/bar/", &[], "b"),
        ("POST /foo/bar", &[], "c"),
        ("POST /foo", &[], "d"),
        ("POST /foo", &[("x-version", "2")], "d"),
        ("GET /foo", &[("X-Version", "2")], "e"),
        ("GET /foo", &[("x-version", "22")], "b"),
        ("GET /foo", &[("x-version", "2"), ("x-version", "3")], "e"),
        ("GET /foo", &[("x-version", "3"), ("x-version", "2")], "e"),
        ("GET /foo", &[("x-version", "2,3")], "b"),
        ("GET /foo?debug=yes", &[], "f"),
        ("GET /foo?x&debug=yes&debug=no", &[], "f"),
        // As it stands: not decoded.
        ("GET /foo?debug=%79es", &[], "b"),
        ("GET /foo?debug=no&debug=yes", &[], "b"),
        ("GET /foo?Debug=yes", &[], "b"),
        ("GET /gone", &[], "410"),
        // One canonical path.
        ("GET /x/../foo/./bar", &[], "c"),
        ("GET //foo//bar", &[], "c"),
        ("GET /FOO", &[], "a"),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let answer = who(&world, method, path, headers).await;
        assert_eq!(answer, expected, "{request} {headers:?}");
    }
    world.assert_nothing_refused().await;
}

#[tokio::test]
async fn the_most_specific_host_wins() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a", "b", "c", "d"]).await;
    let all = |name: &str| vec![entry(name, path("/*"), to(&format!("ns/{name}/80")))];
    let hosts = vec![
        host("*", all("a")),
        host("*.example", all("b")),
        host("*.b.example", all("c")),
        host("a.example", all("d")),
        host("empty.example", Vec::new()),
    ];
    put_table(&mut proxy, table("web", hosts));
    world.apply(&proxy).await;
    for (name, expected) in [
        ("other.test", "a"),
        ("example", "a"),
        ("x.example", "b"),
        ("x.y.example", "b"),
        ("b.example", "b"),
        ("x.b.example", "c"),
        ("a.example", "d"),
        ("A.Example:8080", "d"),
        ("empty.example", "none"),
    ] {
        assert_eq!(
            world.get(name, "/", &[]).await.backend(),
            expected,
            "{name}"
        );
    }
    // Two hosts are none, also where the second looks like a port of the first.
    for name in [
        "a.example,x.example",
        "a.example:80,x.example",
        "a.example:80\r\nhost: x.example",
        "x.example\r\nhost: a.example:80",
    ] {
        let answer = world.get(name, "/", &[]).await;
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
    }
    world.assert_nothing_refused().await;
}

#[tokio::test]
async fn shares_without_weight_get_nothing_and_broken_ones_500() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a", "b", "c"]).await;
    let half = 1_u32 << 31;
    serve(
        &mut proxy,
        vec![
            entry(
                "a",
                path("/zero"),
                Action::Forward(vec![share(1, "ns/a/80"), share(0, "ns/b/80")]),
            ),
            entry(
                "b",
                path("/broken"),
                Action::Forward(vec![share(1, "ns/a/80"), broken(1)]),
            ),
            entry("c", path("/all"), Action::Forward(vec![broken(3)])),
            // Together more than Envoy's sum of 32 bits.
            entry(
                "d",
                path("/huge"),
                Action::Forward(vec![
                    share(half, "ns/a/80"),
                    share(half, "ns/b/80"),
                    share(half, "ns/c/80"),
                ]),
            ),
        ],
    );
    world.apply(&proxy).await;
    let count = async |path: &str| {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..60 {
            *counts
                .entry(who(&world, "GET", path, &[]).await)
                .or_default() += 1;
        }
        counts.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(count("/zero").await, ["a"]);
    // That one of two equal shares gets none of 60 happens once in 2^59.
    assert_eq!(count("/broken").await, ["500", "a"]);
    assert_eq!(count("/all").await, ["500"]);
    assert_eq!(count("/huge").await, ["a", "b", "c"]);
    world.assert_nothing_refused().await;
}

#[tokio::test]
async fn changes_of_a_table_are_served() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a", "b"]).await;
    let mut entries: Vec<_> = (0..200)
        .map(|index| {
            entry(
                &format!("r{index:03}"),
                path(&format!("/p{index:03}")),
                to("ns/a/80"),
            )
        })
        .collect();
    serve(&mut proxy, entries.clone());
    world.apply(&proxy).await;
    assert_eq!(who(&world, "GET", "/p100", &[]).await, "a");

    entries[100] = entry("r100", path("/p100"), to("ns/b/80"));
    serve(&mut proxy, entries.clone());
    world.apply(&proxy).await;
    assert_eq!(who(&world, "GET", "/p100", &[]).await, "b");
    assert_eq!(who(&world, "GET", "/p199", &[]).await, "a");

    entries.remove(150);
    entries.push(entry("new", path("/new/and/long"), to("ns/b/80")));
    serve(&mut proxy, entries);
    world.apply(&proxy).await;
    assert_eq!(who(&world, "GET", "/p150", &[]).await, "404");
    assert_eq!(who(&world, "GET", "/new/and/long", &[]).await, "b");
    world.assert_nothing_refused().await;
}

#[tokio::test]
async fn a_cluster_without_endpoints_answers_503_and_gets_them_later() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a"]).await;
    put(
        &mut proxy.clusters,
        ClusterId("ns/z/80".into()),
        cluster("ns/z/80"),
    );
    serve(&mut proxy, vec![entry("z", path("/*"), to("ns/z/80"))]);
    world.apply(&proxy).await;
    assert_eq!(who(&world, "GET", "/", &[]).await, "503");

    let address = backend("z", world.address).await;
    put_cluster(&mut proxy, "ns/z/80", &[address]);
    world.apply(&proxy).await;
    assert_eq!(who(&world, "GET", "/", &[]).await, "z");

    // The cluster itself changes; Envoy asks for the endpoints again.
    let h2c = postern_model::Cluster {
        upstream: Upstream::H2c,
        ..(*cluster("ns/z/80")).clone()
    };
    put(
        &mut proxy.clusters,
        ClusterId("ns/z/80".into()),
        Arc::new(h2c),
    );
    world.apply(&proxy).await;
    put(
        &mut proxy.clusters,
        ClusterId("ns/z/80".into()),
        cluster("ns/z/80"),
    );
    world.apply(&proxy).await;
    assert_eq!(who(&world, "GET", "/", &[]).await, "z");
    world.assert_nothing_refused().await;
}
