//! What the router serves, and what it refuses.

use postern_cluster::Outside;
use postern_edge::{Answer, Ask, Clients, Target, certificate};
use serde_json::json;

use super::{DOMAIN, Stage, admin, apply, eventually, expect, route};

const FORWARDED: &str = "haproxy.router.openshift.io/set-forwarded-headers";
const NO_COOKIES: &str = "haproxy.router.openshift.io/disable_cookies";
/// What a client says of itself that is not true.
const LIES: [(&str, &str); 4] = [
    ("X-Forwarded-For", "192.0.2.7"),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Forwarded-Host", "lies.example.test"),
    ("Forwarded", "for=192.0.2.7"),
];

/// Asks until the status is this one.
pub fn until(outside: &Outside<'_>, ask: &Ask<'_>, status: u16) -> Answer {
    eventually(&format!("{} says {status}", ask.url), || {
        match ask.ask(outside) {
            Ok(answer) if answer.status == status => Ok(answer),
            other => Err(format!("{other:?}")),
        }
    })
}

/// Every termination, from outside, with what its backend sees.
pub fn all(stage: &Stage<'_>) {
    let cluster = stage.cluster;
    let outside = cluster.outside().unwrap();
    let client = outside.address().to_string();
    let mut replaced = route(
        "team-a",
        "edge",
        &json!({"host": "edge.example.test", "port": {"targetPort": "clear"},
            "tls": {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}}),
    );
    replaced["metadata"]["annotations"] = json!({FORWARDED: "replace", NO_COOKIES: "true"});
    let mut kept = route(
        "team-a",
        "if-none",
        &json!({"host": "if-none.example.test", "port": {"targetPort": "clear"}}),
    );
    kept["metadata"]["annotations"] = json!({FORWARDED: "if-none"});
    let mut never = route(
        "team-a",
        "never",
        &json!({"host": "never.example.test", "port": {"targetPort": "clear"}}),
    );
    never["metadata"]["annotations"] = json!({FORWARDED: "never"});
    let reencrypt = |ca: &str| json!({"termination": "reencrypt", "destinationCACertificate": ca});
    // The pods are certified for one of their Services' names.
    let mut other = route(
        "team-a",
        "other",
        &json!({"host": "other.example.test", "tls": {"termination": "reencrypt"}}),
    );
    other["spec"]["to"]["name"] = "other".into();
    let mut other_own = route(
        "team-a",
        "other-own",
        &json!({"host": "other-own.example.test", "tls": reencrypt(&stage.backend_pem)}),
    );
    other_own["spec"]["to"]["name"] = "other".into();
    apply(
        cluster,
        &[
            other,
            other_own,
            route(
                "team-a",
                "certified",
                &json!({"host": "certified.example.test", "port": {"targetPort": "tls"},
                    "tls": {"termination": "reencrypt"}}),
            ),
            replaced,
            kept,
            never,
            route(
                "team-a",
                "append",
                &json!({"host": "append.example.test", "port": {"targetPort": "clear"},
                    "tls": {"termination": "edge", "insecureEdgeTerminationPolicy": "Allow"}}),
            ),
            route(
                "team-a",
                "again",
                &json!({"host": "again.example.test", "port": {"targetPort": "tls"},
                    "tls": reencrypt(&stage.backend_pem)}),
            ),
            // An authority that certified nothing behind it.
            route(
                "team-a",
                "wrong",
                &json!({"host": "wrong.example.test", "port": {"targetPort": "tls"},
                    "tls": reencrypt(stage.router.ca())}),
            ),
            route(
                "team-a",
                "pass",
                &json!({"host": "pass.example.test", "port": {"targetPort": "tls"},
                    "tls": {"termination": "passthrough"}}),
            ),
            route(
                "team-a",
                "sub",
                &json!({"subdomain": "sub", "port": {"targetPort": "clear"},
                    "tls": {"termination": "edge"}}),
            ),
            route("team-a", "none", &json!({"port": {"targetPort": "clear"}})),
        ],
    );
    expect(
        cluster,
        "team-a/sub",
        "default",
        &format!("sub.{DOMAIN}"),
        "",
    );
    expect(
        cluster,
        "team-a/none",
        "default",
        &format!("none-team-a.{DOMAIN}"),
        "",
    );

    // Edge: TLS ends here; what is said of the client is ours alone.
    let mut ask = Ask::new("https://EDGE.example.test/x?y=1", stage.https());
    ask.headers = &LIES;
    let answer = until(&outside, &ask, 200);
    assert_eq!(
        (&answer.body["tls"], &answer.body["path"]),
        (&json!(false), &json!("/x"))
    );
    assert_eq!(answer.body["host"], "edge.example.test");
    assert_eq!(
        answer.seen("X-Forwarded-For").as_deref(),
        Some(client.as_str())
    );
    assert_eq!(answer.seen("X-Forwarded-Proto").as_deref(), Some("https"));
    assert_eq!(answer.seen("X-Forwarded-Port").as_deref(), Some("443"));
    assert_eq!(
        answer.seen("X-Forwarded-Host").as_deref(),
        Some("edge.example.test")
    );
    let forwarded = format!("for={client};host=edge.example.test;proto=https");
    assert_eq!(answer.seen("Forwarded"), Some(forwarded));
    assert!(
        !answer.headers.contains_key("Set-Cookie"),
        "{:?}",
        answer.headers
    );
    // Nobody gets HTTP/2 from the router's own certificate.
    assert_eq!(answer.proto, "HTTP/1.1");
    // In the clear it sends to TLS.
    let answer = until(
        &outside,
        &Ask::new("http://edge.example.test/x?y=1", stage.http()),
        302,
    );
    assert_eq!(
        answer.headers["Location"],
        ["https://edge.example.test/x?y=1"]
    );
    // Another client is told apart.
    let mut ask = Ask::new("https://edge.example.test/", stage.https());
    ask.from = Some(outside.second_address());
    let second = outside.second_address().to_string();
    assert_eq!(
        until(&outside, &ask, 200).seen("X-Forwarded-For"),
        Some(second)
    );

    // By default what the client says survives, and a cookie ties it to a pod.
    let mut ask = Ask::new("http://append.example.test/", stage.http());
    ask.headers = &LIES;
    let answer = until(&outside, &ask, 200);
    let both = format!("192.0.2.7, {client}");
    assert_eq!(answer.seen("X-Forwarded-For"), Some(both));
    assert_eq!(
        answer.seen("X-Forwarded-Proto").as_deref(),
        Some("gopher, http")
    );
    assert!(
        answer.headers.contains_key("Set-Cookie"),
        "{:?}",
        answer.headers
    );
    ask.url = "http://if-none.example.test/";
    let answer = until(&outside, &ask, 200);
    assert_eq!(answer.seen("X-Forwarded-For").as_deref(), Some("192.0.2.7"));
    assert_eq!(answer.seen("X-Forwarded-Proto").as_deref(), Some("gopher"));
    ask.headers = &[];
    let answer = until(&outside, &ask, 200);
    assert_eq!(
        answer.seen("X-Forwarded-For").as_deref(),
        Some(client.as_str())
    );
    assert_eq!(answer.seen("X-Forwarded-Proto").as_deref(), Some("http"));
    ask.url = "http://never.example.test/";
    assert_eq!(until(&outside, &ask, 200).seen("X-Forwarded-For"), None);

    // Reencrypt: TLS to the pod, whose certificate must be of the Route's authority.
    let answer = until(
        &outside,
        &Ask::new("https://again.example.test/", stage.https()),
        200,
    );
    assert_eq!(answer.body["tls"], true);
    assert_eq!(answer.seen("X-Forwarded-Proto").as_deref(), Some("https"));
    until(
        &outside,
        &Ask::new("https://wrong.example.test/", stage.https()),
        503,
    );
    // Of service-ca the name counts too, of the Route's own authority it does not.
    for (host, status) in [("certified", 200), ("other", 503), ("other-own", 200)] {
        let url = format!("https://{host}.example.test/");
        until(&outside, &Ask::new(&url, stage.https()), status);
    }
    // It has no policy for the clear.
    until(
        &outside,
        &Ask::new("http://again.example.test/", stage.http()),
        503,
    );

    // Passthrough: TLS ends in the pod, which learns nothing of the client.
    let mut ask = Ask::new("https://pass.example.test/", stage.https());
    ask.ca = Some(&stage.backend_ca);
    let answer = until(&outside, &ask, 200);
    assert_eq!(
        (&answer.body["tls"], &answer.proto),
        (&json!(true), &"HTTP/2.0".to_owned())
    );
    assert_eq!(answer.seen("X-Forwarded-For"), None);
    assert_ne!(answer.body["peer"], client.as_str());

    // Made hosts, under the router's own certificate; and hosts of nobody.
    let url = format!("https://sub.{DOMAIN}/");
    let mut ask = Ask::new(&url, stage.https());
    ask.ca = Some(&stage.router_ca);
    until(&outside, &ask, 200);
    let url = format!("http://none-team-a.{DOMAIN}/");
    until(&outside, &Ask::new(&url, stage.http()), 200);
    until(
        &outside,
        &Ask::new("http://nobody.example.test/", stage.http()),
        503,
    );
}

/// Each reason for which a Route is not admitted, and what becomes of it when the reason goes.
pub fn refusals(stage: &Stage<'_>) {
    let cluster = stage.cluster;
    let clear = json!({"targetPort": "clear"});
    let host = "edge.example.test";
    apply(
        cluster,
        &[
            route(
                "team-b",
                "taken",
                &json!({"host": host, "port": clear,
                "tls": {"termination": "edge"}}),
            ),
            route(
                "team-a",
                "twice",
                &json!({"host": host, "port": clear,
                "tls": {"termination": "edge"}}),
            ),
            route(
                "team-a",
                "beside",
                &json!({"host": host, "path": "/beside", "port": clear,
                "tls": {"termination": "edge"}}),
            ),
            route(
                "team-a",
                "wild",
                &json!({"host": "wildcard.w.example.test", "port": clear,
                "wildcardPolicy": "Subdomain"}),
            ),
            route(
                "team-a",
                "bad",
                &json!({"host": "bad.example.test", "port": clear,
                "tls": {"termination": "edge", "certificate": "none", "key": "none"}}),
            ),
        ],
    );
    for (of, host, reason) in [
        ("team-b/taken", host, "HostAlreadyClaimed"),
        ("team-a/twice", host, "HostAlreadyClaimed"),
        ("team-a/beside", host, ""),
        ("team-a/wild", "wildcard.w.example.test", "RouteNotAdmitted"),
        ("team-a/bad", "bad.example.test", "ExtendedValidationFailed"),
    ] {
        expect(cluster, of, "default", host, reason);
    }
    // The host is free when the last Route of its owner's goes.
    let delete = ["-n", "team-a", "delete", "route", "edge", "twice", "beside"];
    admin(cluster, &delete);
    expect(cluster, "team-b/taken", "default", host, "");
    let outside = cluster.outside().unwrap();
    eventually("the other team's pod answers", || {
        let answer = Ask::new("https://edge.example.test/", stage.https()).ask(&outside);
        match answer {
            Ok(answer) if answer.body["pod"] == "team-b" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Requests go on while Routes come and go: quick ones and slow ones, on new connections and on
/// kept ones, over HTTP/1.1 and, where a Route brings its certificate, HTTP/2.
pub fn reloads_lose_nothing(stage: &Stage<'_>) {
    let cluster = stage.cluster;
    let outside = &cluster.outside().unwrap();
    let [_, certificate, key] = certificate(&["own.example.test"]).unwrap();
    let own = json!({"host": "own.example.test", "port": {"targetPort": "clear"},
        "tls": {"termination": "edge", "certificate": certificate, "key": key}});
    apply(cluster, &[route("team-a", "own", &own)]);
    let answer = until(
        outside,
        &Ask::new("https://own.example.test/", stage.https()),
        200,
    );
    assert_eq!(answer.proto, "HTTP/2.0");
    assert_eq!(answer.body["proto"], "HTTP/1.1");

    let targets: [Target<'_>; 3] = [
        // The router's own certificate: HTTP/2 is not offered.
        Target::from(Ask::new("https://append.example.test/", stage.https())).without_http2(),
        Ask::new("https://own.example.test/", stage.https()).into(),
        Ask::new("https://pass.example.test/", stage.https()).into(),
    ];
    let clients = Clients::start(outside, &targets).unwrap();
    let done = clients.until_done("ten reloads", || {
        for round in 0..5 {
            let name = format!("comes-{round}");
            let spec =
                json!({"host": format!("{name}.example.test"), "port": {"targetPort": "clear"}});
            apply(cluster, &[route("team-a", &name, &spec)]);
            let url = format!("http://{name}.example.test/");
            until(outside, &Ask::new(&url, stage.http()), 200);
            admin(cluster, &["-n", "team-a", "delete", "route", &name]);
            until(outside, &Ask::new(&url, stage.http()), 503);
        }
        Ok(())
    });
    done.unwrap();
}

/// A router with wildcards, of another name, on the host's network.
pub fn wildcards(stage: &Stage<'_>) {
    let cluster = stage.cluster;
    let outside = cluster.outside().unwrap();
    let client = outside.address().to_string();
    expect(
        cluster,
        "team-a/wild",
        "host",
        "wildcard.w.example.test",
        "",
    );
    // The other router's entry stays beside it.
    expect(
        cluster,
        "team-a/wild",
        "default",
        "wildcard.w.example.test",
        "RouteNotAdmitted",
    );
    let mut ask = Ask::new("http://any.w.example.test/", stage.http());
    let answer = until(&outside, &ask, 200);
    assert_eq!(
        answer.seen("X-Forwarded-For").as_deref(),
        Some(client.as_str())
    );
    // One label, no more and no less.
    ask.url = "http://a.b.w.example.test/";
    until(&outside, &ask, 503);
    ask.url = "http://w.example.test/";
    until(&outside, &ask, 503);
    let clear = json!({"targetPort": "clear"});
    apply(
        cluster,
        &[
            route(
                "team-b",
                "under",
                &json!({"host": "b.w.example.test", "port": clear}),
            ),
            route(
                "team-a",
                "under",
                &json!({"host": "a.w.example.test", "port": clear}),
            ),
        ],
    );
    expect(
        cluster,
        "team-b/under",
        "host",
        "b.w.example.test",
        "HostAlreadyClaimed",
    );
    expect(cluster, "team-a/under", "host", "a.w.example.test", "");
}
