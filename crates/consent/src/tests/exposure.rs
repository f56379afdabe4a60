//! Routes: what is claimed, what routers may be believed, and how an exposure gives way to another.

use std::collections::BTreeSet;

use postern_api::entitlement::{EntitlementStatus, Exposed, ExposedVerdict, PortTrust};
use postern_api::instance::{
    ExposureType, InsecureEdgeTerminationPolicy, RouteExposure, RouteTermination,
};
use postern_api::names;
use postern_api::reasons::Reason;
use postern_refs::objects::Listener;
use postern_refs::{Key, Snapshot};

use super::build::{EditSpec, gateway, grant, http, https, instance, put, world};
use crate::{Consent, Facts, RouteFacts, RouterVerdict, ServiceFacts, consent};

/// The namespace `team-a`, whose instance asks for Routes of this kind to these hosts.
fn asking(termination: RouteTermination, hosts: &[&str]) -> Snapshot {
    let mut snapshot = world();
    let every = vec![
        ExposureType::Route,
        ExposureType::NodePort,
        ExposureType::LoadBalancer,
    ];
    put(
        &mut snapshot,
        grant("more", &["team-a"]).with(|spec| spec.exposures = every),
    );
    ask(&mut snapshot, ExposureType::Route, termination, hosts);
    snapshot
}

fn ask(snapshot: &mut Snapshot, kind: ExposureType, termination: RouteTermination, hosts: &[&str]) {
    put(
        snapshot,
        instance("team-a", "default").with(|spec| {
            spec.exposure.kind = kind;
            spec.exposure.route = Some(RouteExposure {
                termination,
                hosts: hosts.iter().map(ToString::to_string).collect(),
                insecure_edge_termination_policy: Some(InsecureEdgeTerminationPolicy::Redirect),
            });
        }),
    );
}

fn named(listener: Listener, host: &str) -> Listener {
    Listener {
        hostname: Some(host.into()),
        ..listener
    }
}

/// OpenShift, where nothing has happened yet.
fn openshift() -> Facts {
    Facts {
        routes_served: true,
        ..Facts::default()
    }
}

fn router(host: &str, admitted: bool, reason: &str) -> RouterVerdict {
    RouterVerdict {
        router: "default".into(),
        host: host.into(),
        canonical_hostname: "router-default.apps.example".into(),
        admitted: Some(admitted),
        reason: reason.into(),
        message: format!("because of {reason}"),
    }
}

/// Lets a router answer about the Route for a host, empty for that of the router's domain.
fn answer(facts: &mut Facts, claimed: &str, routers: Vec<RouterVerdict>) {
    let key = Key::new("team-a", &*names::route("web", claimed));
    facts.routes.insert(key, RouteFacts { routers });
}

fn of(snapshot: &Snapshot, previous: Option<&EntitlementStatus>, facts: &Facts) -> Consent {
    let found = consent(snapshot, &Key::new("team-a", "default"), previous, facts);
    assert_eq!(found.refusal, None);
    found
}

/// Host, listener port and exposure of each claim of the Gateway.
fn claims(found: &Consent) -> Vec<(String, u16, Exposed)> {
    let routes = found.entitlement.gateways[0].routes.iter();
    routes
        .map(|claim| (claim.host.clone(), claim.port, claim.exposure))
        .collect()
}

fn verdict(found: &Consent) -> (bool, Reason, String) {
    let ExposedVerdict {
        holds,
        reason,
        message,
    } = found.entitlement.gateways[0]
        .exposed
        .clone()
        .expect("Routes were asked for");
    let known = Reason::parse(&reason);
    (holds, known.expect("a reason of ours"), message)
}

fn exposures(found: &Consent) -> Vec<ExposureType> {
    let exposures = found.entitlement.exposures.iter();
    exposures.map(|exposure| exposure.kind).collect()
}

#[test]
fn each_termination_leads_to_listeners_of_its_protocol_by_a_port_of_its_own() {
    let edge = of(&asking(RouteTermination::Edge, &[]), None, &openshift());
    assert_eq!(claims(&edge), [(String::new(), 80, Exposed::Router)]);
    let ports = |found: &Consent| -> Vec<(u16, Exposed, PortTrust)> {
        let ports = found.entitlement.gateways[0].ports.iter();
        ports
            .map(|port| (port.port, port.exposure, port.trust))
            .collect()
    };
    assert_eq!(
        ports(&edge),
        [
            (80, Exposed::Direct, PortTrust::Nothing),
            (80, Exposed::Router, PortTrust::ForwardedHeaders),
            (443, Exposed::Direct, PortTrust::Nothing),
        ],
        "forwarded headers are believed on the router's port, nowhere else"
    );
    let passthrough = asking(RouteTermination::Passthrough, &["www.team-a.example"]);
    let passthrough = of(&passthrough, None, &openshift());
    assert_eq!(
        claims(&passthrough),
        [("www.team-a.example".into(), 443, Exposed::RouterPassthrough)]
    );
    assert_eq!(
        ports(&passthrough)[2],
        (443, Exposed::RouterPassthrough, PortTrust::Unknown)
    );
    let mut all: Vec<u16> = edge.entitlement.gateways[0]
        .ports
        .iter()
        .map(|port| port.container_port)
        .collect();
    all.dedup();
    assert_eq!(all.len(), 3, "no two share a container port");
}

#[test]
fn hosts_come_from_the_listeners_and_only_granted_ones_are_claimed() {
    let mut snapshot = asking(RouteTermination::Edge, &[]);
    let listeners = vec![
        named(http("www", 80), "www.team-a.example"),
        named(http("all", 8080), "*.team-a.example"),
        named(http("foreign", 80), "www.team-b.example"),
        named(http("again", 8081), "www.team-a.example"),
    ];
    put(&mut snapshot, gateway("team-a", "web", listeners));
    let found = of(&snapshot, None, &openshift());
    assert_eq!(
        claims(&found),
        [
            ("www.team-a.example".into(), 80, Exposed::Router),
            ("*.team-a.example".into(), 8080, Exposed::Router),
        ]
    );
    let (holds, reason, message) = verdict(&found);
    assert_eq!((holds, reason), (false, Reason::HostnameNotGranted));
    assert!(
        message.starts_with("no TenantGrant gives the namespace team-a www.team-b.example; ask"),
        "{message}"
    );
}

#[test]
fn a_host_that_no_listener_serves_is_not_claimed() {
    let mut snapshot = asking(
        RouteTermination::Edge,
        &["api.team-a.example", "www.team-a.example"],
    );
    let listeners = vec![named(http("www", 80), "www.team-a.example")];
    put(&mut snapshot, gateway("team-a", "web", listeners));
    let found = of(&snapshot, None, &openshift());
    assert_eq!(
        claims(&found),
        [("www.team-a.example".into(), 80, Exposed::Router)]
    );
    let (_, _, message) = verdict(&found);
    assert!(
        message.starts_with("no HTTP listener of the Gateway serves api.team-a.example; add one"),
        "{message}"
    );

    let only_https = vec![https("https", 443, "cert")];
    let mut snapshot = asking(RouteTermination::Edge, &[]);
    put(&mut snapshot, gateway("team-a", "web", only_https));
    let (holds, reason, message) = verdict(&of(&snapshot, None, &openshift()));
    assert_eq!((holds, reason), (false, Reason::NoMatchingListener));
    assert_eq!(
        message,
        "Edge leads to HTTP listeners and the Gateway has none; add one, or use Passthrough"
    );
}

#[test]
fn routers_answers_become_addresses_and_reasons() {
    let snapshot = asking(RouteTermination::Edge, &["www.team-a.example"]);
    let mut facts = openshift();
    let found = of(&snapshot, None, &facts);
    assert!(found.entitlement.gateways[0].awaits_address);
    assert_eq!(verdict(&found).1, Reason::Pending);

    let host = "www.team-a.example";
    answer(&mut facts, host, vec![]);
    assert!(
        verdict(&of(&snapshot, None, &facts))
            .2
            .contains("no router has answered yet")
    );

    answer(
        &mut facts,
        host,
        vec![router(host, false, "HostAlreadyClaimed")],
    );
    let found = of(&snapshot, None, &facts);
    let (holds, reason, message) = verdict(&found);
    assert_eq!((holds, reason), (false, Reason::RouteNotAdmitted));
    assert!(
        message.ends_with(
            "the router default refused it: HostAlreadyClaimed: because of HostAlreadyClaimed"
        ),
        "{message}"
    );
    assert!(found.entitlement.gateways[0].addresses.is_empty());

    let both = vec![
        router(host, false, "RouteNotAdmitted"),
        router(host, true, ""),
    ];
    answer(&mut facts, host, both);
    let found = of(&snapshot, None, &facts);
    assert_eq!(verdict(&found).1, Reason::Exposed, "one router is enough");
    let gateway = &found.entitlement.gateways[0];
    assert!(!gateway.awaits_address);
    assert_eq!(
        (&*gateway.addresses[0].kind, &*gateway.addresses[0].value),
        ("Hostname", host)
    );
    let first = &found.addresses[0];
    assert_eq!(
        (&*first.value, first.port, first.listener_port),
        (host, 443, 80)
    );
}

/// Namespace admins may write their Routes' status on OpenShift.
#[test]
fn a_forged_status_names_no_other_host() {
    let snapshot = asking(RouteTermination::Edge, &["www.team-a.example"]);
    let mut facts = openshift();
    let host = "www.team-a.example";
    answer(&mut facts, host, vec![router("www.bank.example", true, "")]);
    let found = of(&snapshot, None, &facts);
    assert!(found.entitlement.gateways[0].addresses.is_empty());
    assert!(!verdict(&found).0);

    let of_the_domain = asking(RouteTermination::Edge, &[]);
    for (host, believed) in [
        ("web-team-a.apps.example", true),
        ("web-team-a", false),
        ("web-team-b.apps.example", false),
        ("web-team-a.evil_name", false),
        ("web-team-a.a b", false),
    ] {
        let mut facts = openshift();
        answer(&mut facts, "", vec![router(host, true, "")]);
        let found = of(&of_the_domain, None, &facts);
        let addresses = &found.entitlement.gateways[0].addresses;
        assert_eq!(addresses.len(), usize::from(believed), "{host}");
    }
    let mut facts = openshift();
    let shouting = router(host, false, "X\r\nY\u{1b}[31m");
    answer(&mut facts, host, vec![shouting]);
    let message = verdict(&of(&snapshot, None, &facts)).2;
    assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
}

#[test]
fn a_wildcard_is_reached_by_the_routers_own_name() {
    let mut snapshot = asking(RouteTermination::Edge, &["*.team-a.example"]);
    let listeners = vec![named(http("all", 80), "*.team-a.example")];
    put(&mut snapshot, gateway("team-a", "web", listeners));
    let mut facts = openshift();
    let admitted = router("wildcard.team-a.example", true, "");
    answer(&mut facts, "*.team-a.example", vec![admitted]);
    let found = of(&snapshot, None, &facts);
    assert_eq!(
        found.entitlement.gateways[0].addresses[0].value,
        "router-default.apps.example"
    );
}

#[test]
fn reencrypt_leads_to_http_listeners_by_a_port_of_its_own() {
    let edge = of(&asking(RouteTermination::Edge, &[]), None, &openshift());
    let again = asking(RouteTermination::Reencrypt, &[]);
    let found = of(&again, Some(&edge.entitlement), &openshift());
    assert_eq!(
        claims(&found),
        [(String::new(), 80, Exposed::RouterReencrypt)]
    );
    let ports = &found.entitlement.gateways[0].ports;
    let of_port = |wanted: Exposed| {
        let port = ports.iter().find(|port| port.exposure == wanted);
        port.map(|port| (port.port, port.trust, port.container_port))
    };
    let (port, trust, number) = of_port(Exposed::RouterReencrypt).expect("a port of its own");
    assert_eq!((port, trust), (80, PortTrust::ForwardedHeaders));
    // Routers that have not heard of it yet still come by the old one.
    let (_, _, before) = of_port(Exposed::Router).expect("the old one stays meanwhile");
    assert_ne!(number, before);
    assert_eq!(of_port(Exposed::RouterPassthrough), None);
}

#[test]
fn where_the_api_is_absent_the_instance_says_so_and_keeps_what_it_has() {
    let snapshot = asking(RouteTermination::Edge, &[]);
    let key = Key::new("team-a", "default");
    let refusal = consent(&snapshot, &key, None, &Facts::default())
        .refusal
        .expect("refused");
    assert_eq!(refusal.reason, Reason::NotServed);
    assert!(!refusal.revokes(), "what serves goes on");
}

#[test]
fn an_exposure_goes_on_until_the_next_is_ready_and_its_clients_have_moved() {
    let host = "www.team-a.example";
    let mut snapshot = asking(RouteTermination::Edge, &[host]);
    ask(
        &mut snapshot,
        ExposureType::NodePort,
        RouteTermination::Edge,
        &[],
    );
    let mut facts = openshift();
    let service = ServiceFacts {
        cluster_ips: vec!["10.0.0.7".parse().expect("an address")],
        node_ports: [(80, 30080), (443, 30443)].into(),
        load_balancer: vec![],
    };
    facts.services.insert(Key::new("team-a", "web"), service);
    let on_nodes = of(&snapshot, None, &facts);
    assert_eq!(exposures(&on_nodes), [ExposureType::NodePort]);

    ask(
        &mut snapshot,
        ExposureType::Route,
        RouteTermination::Edge,
        &[host],
    );
    let waiting = of(&snapshot, Some(&on_nodes.entitlement), &facts);
    let both = [ExposureType::Route, ExposureType::NodePort];
    assert_eq!(exposures(&waiting), both);
    assert!(waiting.unfinished && waiting.leaving.is_empty());
    let told: Vec<i32> = waiting
        .addresses
        .iter()
        .map(|address| address.port)
        .collect();
    assert_eq!(told, [80, 443], "no node address is known here");

    answer(&mut facts, host, vec![router(host, true, "")]);
    let node_ports = (ExposureType::NodePort, RouteTermination::default());
    facts.lingering.insert(node_ports);
    let lingering = of(&snapshot, Some(&waiting.entitlement), &facts);
    assert_eq!(exposures(&lingering), both);
    assert!(!lingering.unfinished);
    assert_eq!(lingering.leaving, BTreeSet::from([node_ports]));

    facts.lingering.clear();
    let alone = of(&snapshot, Some(&lingering.entitlement), &facts);
    assert_eq!(exposures(&alone), [ExposureType::Route]);

    // And back: the Route goes on while node ports are waited for, and then lingers.
    let before = alone.entitlement.gateways[0].ports.clone();
    ask(
        &mut snapshot,
        ExposureType::NodePort,
        RouteTermination::Edge,
        &[],
    );
    facts
        .services
        .values_mut()
        .for_each(|service| service.node_ports.clear());
    let back = of(&snapshot, Some(&alone.entitlement), &facts);
    assert_eq!(
        exposures(&back),
        [ExposureType::NodePort, ExposureType::Route]
    );
    assert_eq!(claims(&back), claims(&alone));
    assert_eq!(back.entitlement.gateways[0].ports, before);
}

#[test]
fn what_is_no_longer_granted_does_not_linger() {
    let mut snapshot = asking(RouteTermination::Edge, &[]);
    let mut facts = openshift();
    let routed = of(&snapshot, None, &facts);
    put(
        &mut snapshot,
        grant("more", &["team-a"]).with(|spec| spec.exposures = vec![ExposureType::NodePort]),
    );
    ask(
        &mut snapshot,
        ExposureType::NodePort,
        RouteTermination::Edge,
        &[],
    );
    facts
        .lingering
        .insert((ExposureType::Route, RouteTermination::Edge));
    let found = of(&snapshot, Some(&routed.entitlement), &facts);
    assert_eq!(exposures(&found), [ExposureType::NodePort]);
    assert_eq!(claims(&found), []);
}

/// A client of the old Route must find its port as long as routers may still send there.
#[test]
fn a_change_of_termination_keeps_both_ports_meanwhile() {
    let host = "www.team-a.example";
    let mut snapshot = asking(RouteTermination::Edge, &[host]);
    let mut facts = openshift();
    answer(&mut facts, host, vec![router(host, true, "")]);
    let edge = of(&snapshot, None, &facts);
    ask(
        &mut snapshot,
        ExposureType::Route,
        RouteTermination::Passthrough,
        &[host],
    );
    facts
        .lingering
        .insert((ExposureType::Route, RouteTermination::Edge));
    let found = of(&snapshot, Some(&edge.entitlement), &facts);
    assert_eq!(
        claims(&found),
        [(host.into(), 443, Exposed::RouterPassthrough)],
        "a host has one Route"
    );
    let kinds: Vec<Exposed> = found.entitlement.gateways[0]
        .ports
        .iter()
        .map(|port| port.exposure)
        .collect();
    assert_eq!(
        kinds,
        [
            Exposed::Direct,
            Exposed::Router,
            Exposed::Direct,
            Exposed::RouterPassthrough
        ]
    );
}
