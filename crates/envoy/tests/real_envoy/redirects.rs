//! Redirects, with the Gateway API's table of prefix replacements.

use std::sync::Arc;

use postern_model::{Action, PathRewrite, Redirect, RouteEntry, Trust};

use crate::fixtures::{entry, host, path, put_listener, put_table, redirect, table};
use crate::routing::with_backends;
use crate::world::World;

fn to(name: &str, matcher: &str, change: impl FnOnce(&mut Redirect)) -> Arc<RouteEntry> {
    let mut redirect = redirect(302);
    change(&mut redirect);
    entry(name, path(matcher), Action::Redirect(redirect))
}

fn replace(name: &str, prefix: &str, replacement: &'static str) -> Arc<RouteEntry> {
    to(name, &format!("{prefix}*"), |redirect| {
        redirect.path = Some(PathRewrite::Prefix(replacement.into()));
    })
}

#[tokio::test]
async fn prefixes_are_replaced_as_the_gateway_api_says() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a"]).await;
    let entries = vec![
        replace("a", "/a", "/xyz"),
        replace("b", "/b", "/xyz/"),
        replace("c", "/c/", "/xyz"),
        replace("d", "/d", ""),
        replace("e", "/e/f", "/"),
        // Nothing of a replacement is a pattern, a format or a group.
        replace("f", "/g.*", "/%REQ(host)%/\\1$1"),
        to("full", "/full*", |redirect| {
            redirect.path = Some(PathRewrite::Full("/new/%7e".into()));
        }),
    ];
    let roots = [("root", "/xyz"), ("stay", "/")];
    let root = |(name, to): (&str, &'static str)| {
        host(&format!("{name}.example"), vec![replace(name, "/", to)])
    };
    let mut hosts: Vec<_> = roots.into_iter().map(root).collect();
    hosts.push(host("a.example", entries));
    put_table(&mut proxy, table("web", hosts));
    world.apply(&proxy).await;
    for (name, path, expected) in [
        ("a", "/a", "/xyz"),
        ("a", "/a/", "/xyz/"),
        ("a", "/a/bar", "/xyz/bar"),
        ("a", "/a/bar?q=/a", "/xyz/bar?q=/a"),
        ("a", "/a?q", "/xyz?q"),
        ("a", "/b/bar", "/xyz/bar"),
        ("a", "/b", "/xyz"),
        ("a", "/c/bar", "/xyz/bar"),
        ("a", "/d/bar", "/bar"),
        ("a", "/d/", "/"),
        ("a", "/d", "/"),
        ("a", "/d?q=1", "/?q=1"),
        ("a", "/d/d/d", "/d/d"),
        ("a", "/e/f", "/"),
        ("a", "/e/f/g", "/g"),
        ("a", "/g.*/x", "/%req(host)%/\\1$1/x"),
        ("a", "/full/x?q=1", "/new/%7e?q=1"),
        ("root", "/", "/xyz/"),
        ("root", "/bar", "/xyz/bar"),
        ("root", "/bar/", "/xyz/bar/"),
        ("stay", "/bar", "/bar"),
    ] {
        let host = format!("{name}.example");
        let answer = world.get(&host, path, &[]).await;
        let location = answer.header("location").unwrap_or_default();
        assert_eq!(location, format!("http://{host}{expected}"), "{path}");
        assert_eq!(answer.status, 302);
    }
    // What only looks like the prefix is another path.
    assert_eq!(world.get("a.example", "/dd", &[]).await.status, 404);
    assert_eq!(world.get("a.example", "/gxx/x", &[]).await.status, 404);
    world.assert_nothing_refused().await;
}

#[tokio::test]
async fn scheme_host_port_and_status() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a"]).await;
    let entries = || {
        vec![
            to("https", "/https", |redirect| {
                redirect.scheme = Some("https".into());
                redirect.port = Some(443);
                redirect.status = 301;
            }),
            to("host", "/host", |redirect| {
                redirect.host = Some("b.example".into());
            }),
            to("port", "/port", |redirect| redirect.port = Some(8443)),
            to("all", "/all", |redirect| {
                redirect.scheme = Some("https".into());
                redirect.host = Some("b.example".into());
                redirect.port = Some(444);
                redirect.path = Some(PathRewrite::Full("/x".into()));
                redirect.status = 308;
            }),
        ]
    };
    let hosts = vec![
        host("a.example", entries()),
        host("*.wild.example", entries()),
    ];
    put_table(&mut proxy, table("web", hosts));
    world.apply(&proxy).await;
    for (name, path, status, expected) in [
        ("a.example", "/https", 301, "https://a.example/https"),
        (
            "a.example:8080",
            "/https?q",
            301,
            "https://a.example/https?q",
        ),
        (
            "x.wild.example",
            "/https",
            301,
            "https://x.wild.example/https",
        ),
        (
            "x.wild.example:80",
            "/https",
            301,
            "https://x.wild.example:443/https",
        ),
        (
            "x.wild.example:8080",
            "/https",
            301,
            "https://x.wild.example:443/https",
        ),
        ("a.example:8080", "/host", 302, "http://b.example/host"),
        ("a.example:8080", "/port", 302, "http://a.example:8443/port"),
        ("a.example", "/port", 302, "http://a.example:8443/port"),
        ("a.example", "/all?q=1", 308, "https://b.example:444/x?q=1"),
    ] {
        let answer = world.get(name, path, &[]).await;
        assert_eq!(answer.header("location"), Some(expected), "{name} {path}");
        assert_eq!(answer.status, status);
    }
    world.assert_nothing_refused().await;
}

/// Behind a proxy that ends TLS, a redirect that keeps the scheme keeps the client's.
#[tokio::test]
async fn a_kept_scheme_is_the_clients() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut proxy = with_backends(&world, &["a"]).await;
    let trusting = crate::fixtures::listener(
        "web",
        crate::world::PORT,
        "web",
        Trust::ForwardedHeaders { hops: 1 },
    );
    put_listener(&mut proxy, trusting);
    let entries = vec![to("host", "/*", |redirect| {
        redirect.host = Some("b.example".into());
    })];
    put_table(&mut proxy, table("web", vec![host("*", entries)]));
    world.apply(&proxy).await;
    let answer = world
        .get("a.example", "/", &[("x-forwarded-proto", "https")])
        .await;
    assert_eq!(answer.header("location"), Some("https://b.example/"));
    world.assert_nothing_refused().await;
}
