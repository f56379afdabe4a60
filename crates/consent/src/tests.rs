mod bare;
mod build;
mod exposure;
mod hostile;
mod property;
mod used;

use std::net::IpAddr;

use postern_api::entitlement::{EntitlementStatus, ExternalAddress, ObjectRef, PortTrust, Quotas};
use postern_api::instance::{ExposureType, LoadBalancerExposure, Placement};
use postern_api::reasons::Reason;
use postern_refs::objects::{NamespacesFrom, Selector};
use postern_refs::{Body, FieldPath, Key, Name, Snapshot};

use self::build::{Edit, EditSpec, gateway, grant, http, https, instance, put, route, world};
use super::{Consent, Facts, Ownership, ServiceFacts, consent, owner};

fn of(snapshot: &Snapshot, namespace: &str) -> Consent {
    consent(
        snapshot,
        &Key::new(namespace, "default"),
        None,
        &Facts::default(),
    )
}

#[test]
fn a_granted_instance_gets_its_gateways_their_ports_and_their_secrets() {
    let found = of(&world(), "team-a");
    assert_eq!(found.refusal, None);
    let entitlement = found.entitlement;
    assert_eq!(entitlement.gateway_classes, ["postern"]);
    assert_eq!(entitlement.instance.uid, "uid-team-a/default");
    let [gateway] = &*entitlement.gateways else {
        panic!("one Gateway: {:?}", entitlement.gateways);
    };
    assert_eq!((&*gateway.name, &*gateway.uid), ("web", "uid-team-a/web"));
    assert_eq!(gateway.service, "postern-web-gateway");
    assert_eq!(gateway.shard, "default");
    let ports: Vec<u16> = gateway.ports.iter().map(|port| port.port).collect();
    assert_eq!(ports, [80, 443]);
    assert!(
        gateway
            .ports
            .iter()
            .all(|port| port.trust == PortTrust::Nothing)
    );
    assert_eq!(gateway.listeners.len(), 2);
    assert_eq!(gateway.listeners[0].route_namespaces, ["team-a"]);
    let secret = ObjectRef {
        group: String::new(),
        kind: "Secret".into(),
        namespace: "team-a".into(),
        name: "cert".into(),
    };
    assert_eq!(entitlement.objects, [secret]);
    let watched: Vec<&str> = entitlement
        .watches
        .iter()
        .map(|watch| &*watch.kind)
        .collect();
    assert_eq!(
        watched,
        ["Service", "EndpointSlice", "Gateway", "HTTPRoute"]
    );
    assert!(
        entitlement
            .watches
            .iter()
            .all(|watch| watch.namespace == "team-a")
    );
    assert_eq!(entitlement.hostnames, ["*.team-a.example"]);
    assert_eq!(found.granted.by, ["a"]);
    assert!(entitlement.refused.is_empty() && entitlement.permitted.is_empty());
}

#[test]
fn without_a_grant_the_message_holds_the_grant_to_apply() {
    let mut snapshot = world();
    snapshot.edit(|grants: &mut build::Grants| drop(grants.remove(&Key::new("", "a"))));
    let found = of(&snapshot, "team-a");
    let refusal = found.refusal.expect("refused");
    assert_eq!(refusal.reason, Reason::NotGranted);
    assert!(refusal.revokes());
    assert_eq!(found.entitlement.gateways, []);
    assert_eq!(found.entitlement.objects, []);
    let (_, yaml) = refusal
        .message
        .split_once(":\n")
        .expect("YAML after the first line");
    assert_eq!(
        yaml,
        "apiVersion: postern.dev/v1alpha1\nkind: TenantGrant\nmetadata:\n  name: \"team-a\"\n\
         spec:\n  namespaces:\n    names: [\"team-a\"]\n  exposures: [ClusterIP]\n  hostnames: \
         # as the namespace asks: are they its own?\n  - \"www.team-a.example\"\n"
    );
}

#[test]
fn a_proposed_grant_never_replaces_one_that_exists() {
    let mut snapshot = world();
    snapshot.edit(|grants: &mut build::Grants| drop(grants.remove(&Key::new("", "a"))));
    put(&mut snapshot, grant("team-a", &["elsewhere"]));
    put(&mut snapshot, grant("team-a-2", &["elsewhere"]));
    let message = of(&snapshot, "team-a").refusal.expect("refused").message;
    assert!(message.contains("  name: \"team-a-3\"\n"), "{message}");
}

#[test]
fn grants_unite_and_the_least_quota_holds() {
    let mut snapshot = world();
    let mut more = grant("b", &[]);
    more.edit_spec(|spec| {
        let labels = [("team".to_owned(), "a".to_owned())];
        spec.namespaces.selector = Some(postern_api::instance::LabelSelector {
            match_labels: labels.into(),
        });
        spec.hostnames = vec!["A.example".into(), "*.team-a.example".into()];
        spec.exposures = vec![ExposureType::NodePort];
        spec.quotas = Some(Quotas {
            routes: Some(5),
            ..Quotas::default()
        });
    });
    put(&mut snapshot, more.clone());
    let mut third = grant("c", &["team-a"]);
    third.edit_spec(|spec| {
        spec.quotas = Some(Quotas {
            routes: Some(9),
            endpoints: Some(1),
            ..Quotas::default()
        });
    });
    put(&mut snapshot, third);
    let found = of(&snapshot, "team-a");
    assert_eq!(found.granted.by, ["a", "b", "c"]);
    assert_eq!(found.granted.hostnames, ["*.team-a.example", "a.example"]);
    assert_eq!(
        found.granted.exposures,
        [ExposureType::ClusterIP, ExposureType::NodePort]
    );
    assert_eq!(found.entitlement.quotas.routes, Some(5));
    assert_eq!(found.entitlement.quotas.endpoints, Some(1));
    assert_eq!(found.entitlement.quotas.listeners, None);
    assert_eq!(
        found.granted.quotas.as_ref(),
        Some(&found.entitlement.quotas)
    );
    assert_eq!(of(&snapshot, "team-b").granted.quotas, None);
    assert_eq!(of(&snapshot, "team-b").granted.by, ["b-only"]);
}

#[test]
fn what_is_not_granted_or_not_built_is_refused_by_field() {
    let cases = [
        (
            ExposureType::NodePort,
            Placement::Own,
            Reason::ExposureNotGranted,
            "spec.exposure.type",
        ),
        (
            ExposureType::Route,
            Placement::Own,
            Reason::NotServed,
            "spec.exposure.type",
        ),
        (
            ExposureType::ClusterIP,
            Placement::Managed,
            Reason::UnsupportedValue,
            "spec.placement",
        ),
    ];
    for (exposure, placement, reason, field) in cases {
        let mut snapshot = world();
        let mut grant = grant("more", &["team-a"]);
        grant.edit_spec(|spec| {
            spec.exposures = vec![ExposureType::Route, ExposureType::LoadBalancer];
        });
        put(&mut snapshot, grant);
        let mut mine = instance("team-a", "default");
        mine.edit_spec(|spec| {
            spec.exposure.kind = exposure;
            spec.placement = placement;
        });
        put(&mut snapshot, mine);
        let refusal = of(&snapshot, "team-a").refusal.expect("refused");
        assert_eq!(
            (refusal.reason, refusal.field.to_string()),
            (reason, field.into())
        );
        assert!(refusal.message.starts_with(field), "{}", refusal.message);
        assert_eq!(refusal.revokes(), reason == Reason::ExposureNotGranted);
    }
}

#[test]
fn an_instance_that_does_not_read_is_refused_by_field() {
    let mut snapshot = world();
    let mut broken = instance("team-a", "default");
    broken.body = Body::Invalid {
        field: FieldPath::parse("spec.proxy.replicas"),
        reason: "a number was expected".into(),
    };
    put(&mut snapshot, broken);
    let refusal = of(&snapshot, "team-a").refusal.expect("refused");
    assert_eq!(refusal.reason, Reason::Invalid);
    assert_eq!(
        refusal.message,
        "spec.proxy.replicas: a number was expected"
    );

    let mut newer = instance("team-a", "default");
    newer.unsupported = vec![FieldPath::parse("spec.magic")];
    put(&mut snapshot, newer);
    let refusal = of(&snapshot, "team-a").refusal.expect("refused");
    assert_eq!(refusal.reason, Reason::UnsupportedValue);
    assert!(refusal.message.starts_with("spec.magic: "));

    let absent = consent(&snapshot, &Key::new("team-a", "x"), None, &Facts::default());
    assert!(absent.refusal.is_some());
}

#[test]
fn ports_are_read_back_and_survive_other_gateways() {
    let mut snapshot = world();
    let key = Key::new("team-a", "default");
    let mut previous = of(&snapshot, "team-a").entitlement;
    // As if a collision had moved it once.
    previous.gateways[0].ports[0].container_port = 12_345;
    for name in ["aaa", "zzz"] {
        put(
            &mut snapshot,
            gateway("team-a", name, vec![http("http", 80)]),
        );
    }
    let next = consent(&snapshot, &key, Some(&previous), &Facts::default()).entitlement;
    assert_eq!(next.gateways.len(), 3);
    let web = next
        .gateways
        .iter()
        .find(|gateway| gateway.name == "web")
        .expect("there");
    assert_eq!(web.ports, previous.gateways[0].ports);
    let all: std::collections::BTreeSet<u16> = next
        .gateways
        .iter()
        .flat_map(|gateway| gateway.ports.iter().map(|port| port.container_port))
        .collect();
    assert_eq!(all.len(), 4, "no two listeners share a port");
    // A lost Entitlement gives the same ports but for that collision.
    let lost = consent(&snapshot, &key, None, &Facts::default()).entitlement;
    let again = consent(&snapshot, &key, Some(&lost), &Facts::default()).entitlement;
    assert_eq!(lost, again);
}

#[test]
fn an_unbuilt_protocol_gets_no_port() {
    let mut snapshot = world();
    let mut tcp = http("tcp", 5432);
    tcp.protocol = postern_refs::objects::Protocol::Tcp;
    put(
        &mut snapshot,
        gateway("team-a", "web", vec![http("http", 80), tcp]),
    );
    let entitlement = of(&snapshot, "team-a").entitlement;
    let ports: Vec<u16> = entitlement.gateways[0]
        .ports
        .iter()
        .map(|port| port.port)
        .collect();
    assert_eq!(ports, [80]);
    assert_eq!(entitlement.gateways[0].listeners.len(), 2);
}

#[test]
fn route_namespaces_hold_the_own_namespace_or_nothing() {
    let selector = |key: &str, value: &str| {
        NamespacesFrom::Selector(Selector {
            labels: [(Name::from(key), Name::from(value))].into(),
            requirements: Vec::new(),
        })
    };
    let cases = [
        (NamespacesFrom::Same, true),
        (NamespacesFrom::All, true),
        (NamespacesFrom::Selector(Selector::default()), true),
        (selector("team", "a"), true),
        (selector("kubernetes.io/metadata.name", "team-a"), true),
        (selector("kubernetes.io/metadata.name", "team-b"), false),
        (NamespacesFrom::Nobody("None".into()), false),
    ];
    for (from, admitted) in cases {
        let mut snapshot = world();
        let mut listener = http("http", 80);
        listener.allowed_routes.namespaces = from.clone();
        put(&mut snapshot, gateway("team-a", "web", vec![listener]));
        let entitlement = of(&snapshot, "team-a").entitlement;
        let expected: &[&str] = if admitted { &["team-a"] } else { &[] };
        assert_eq!(
            entitlement.gateways[0].listeners[0].route_namespaces, expected,
            "{from:?}"
        );
    }
}

#[test]
fn addresses_come_from_the_cluster_and_node_ports_stand_in_the_instance() {
    let mut snapshot = world();
    put(
        &mut snapshot,
        grant("node", &["team-a"]).with(|spec| {
            spec.exposures = vec![ExposureType::NodePort];
        }),
    );
    put(
        &mut snapshot,
        instance("team-a", "default").with(|spec| {
            spec.exposure.kind = ExposureType::NodePort;
        }),
    );
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let facts = Facts {
        services: [(
            Key::new("team-a", "web"),
            ServiceFacts {
                cluster_ips: vec![ip("10.0.0.7")],
                node_ports: [(80, 30080)].into(),
                load_balancer: vec![],
            },
        )]
        .into(),
        nodes: vec![ip("192.0.2.1")],
        ..Facts::default()
    };
    let found = consent(&snapshot, &Key::new("team-a", "default"), None, &facts);
    let gateway = &found.entitlement.gateways[0];
    assert_eq!(gateway.addresses.len(), 1);
    assert_eq!(gateway.addresses[0].value, "10.0.0.7");
    let told: Vec<(&str, i32, i32)> = found
        .addresses
        .iter()
        .map(|address| (&*address.value, address.port, address.listener_port))
        .collect();
    assert_eq!(
        told,
        [
            ("192.0.2.1", 30080, 80),
            ("10.0.0.7", 80, 80),
            ("10.0.0.7", 443, 443)
        ]
    );
}

#[test]
fn a_load_balancer_is_waited_for_and_its_addresses_are_the_gateways() {
    let mut snapshot = world();
    put(
        &mut snapshot,
        grant("more", &["team-a"]).with(|spec| {
            spec.exposures = vec![ExposureType::LoadBalancer];
            spec.address_pools = vec!["edge".into()];
        }),
    );
    let asking = |pool: Option<&str>| {
        instance("team-a", "default").with(|spec| {
            spec.exposure.kind = ExposureType::LoadBalancer;
            spec.exposure.load_balancer = Some(LoadBalancerExposure {
                address_pool: pool.map(str::to_owned),
                ..LoadBalancerExposure::default()
            });
        })
    };
    put(&mut snapshot, asking(Some("edge")));
    let with = |snapshot: &Snapshot, given: &[&str]| {
        let given = given.iter().map(|value| ExternalAddress {
            kind: "IPAddress".into(),
            value: (*value).into(),
        });
        let service = ServiceFacts {
            cluster_ips: vec!["10.0.0.7".parse().expect("an address")],
            load_balancer: given.collect(),
            ..ServiceFacts::default()
        };
        let facts = Facts {
            services: [(Key::new("team-a", "web"), service)].into(),
            ..Facts::default()
        };
        consent(snapshot, &Key::new("team-a", "default"), None, &facts)
    };
    let waiting = with(&snapshot, &[]).entitlement.gateways.remove(0);
    assert!(waiting.awaits_address && waiting.addresses.is_empty());
    let found = with(&snapshot, &["192.0.2.7"]);
    let gateway = &found.entitlement.gateways[0];
    assert!(!gateway.awaits_address);
    assert_eq!(gateway.addresses[0].value, "192.0.2.7");
    assert_eq!(
        (&*found.addresses[0].value, found.addresses[0].port),
        ("192.0.2.7", 80)
    );

    put(&mut snapshot, asking(Some("others")));
    let refusal = with(&snapshot, &[]).refusal.expect("refused");
    assert_eq!(refusal.reason, Reason::AddressPoolNotGranted);
    assert!(
        refusal
            .message
            .starts_with("spec.exposure.loadBalancer.addressPool: the pool \"others\" is not granted (granted: edge; by"),
        "{}",
        refusal.message
    );
    put(&mut snapshot, asking(None));
    assert_eq!(with(&snapshot, &[]).refusal, None);
}

#[test]
fn a_class_of_ones_own_gives_way_to_a_foreign_one_of_its_name() {
    let mut snapshot = world();
    snapshot.gateway_classes = std::sync::Arc::default();
    let facts = Facts {
        classes: ["postern".into()].into(),
        ..Facts::default()
    };
    let key = Key::new("team-a", "default");
    let found = consent(&snapshot, &key, None, &facts).entitlement;
    assert_eq!(
        (found.gateways.len(), &*found.gateway_classes),
        (1, &["postern".to_owned()][..])
    );
    put(
        &mut snapshot,
        build::class("postern", "other.example/controller"),
    );
    let found = consent(&snapshot, &key, None, &facts).entitlement;
    assert_eq!((found.gateways.len(), found.gateway_classes.len()), (0, 0));
}

#[test]
fn a_class_with_parameters_is_not_served_and_says_so() {
    let mut snapshot = world();
    let mut class = build::class("postern", postern_api::CONTROLLER_NAME);
    class.edit_spec(|class| {
        class.parameters = Some(build::reference("", "ConfigMap", None, "x"));
    });
    put(&mut snapshot, class);
    let entitlement = of(&snapshot, "team-a").entitlement;
    assert!(entitlement.gateways.is_empty() && entitlement.gateway_classes.is_empty());
    let web = gateway("team-a", "web", vec![https("https", 443, "cert")]);
    let Ownership::Wrong { field, .. } = owner(&snapshot, &[].into(), &web) else {
        panic!("wrong class");
    };
    assert_eq!(field.to_string(), "spec.gatewayClassName");
}

#[test]
fn two_instances_of_a_namespace_share_nothing() {
    let mut snapshot = world();
    put(&mut snapshot, instance("team-a", "second"));
    let mut other = gateway("team-a", "other", vec![https("https", 443, "other-cert")]);
    other.edit_spec(|gateway| gateway.parameters = Some(build::to_instance(None, "second")));
    put(&mut snapshot, other);
    let second = consent(
        &snapshot,
        &Key::new("team-a", "second"),
        None,
        &Facts::default(),
    );
    let names = |status: &EntitlementStatus| -> Vec<String> {
        let gateways = status.gateways.iter().map(|gateway| gateway.name.clone());
        gateways
            .chain(status.objects.iter().map(|object| object.name.clone()))
            .collect()
    };
    assert_eq!(names(&second.entitlement), ["other", "other-cert"]);
    assert_eq!(names(&of(&snapshot, "team-a").entitlement), ["web", "cert"]);
    // Routes are the namespace's: both control planes see them, and both need the decisions.
    put(
        &mut snapshot,
        route("team-a", "r", &[(Some("team-b"), "web")], &[]),
    );
    let decided = |name: &str| {
        consent(
            &snapshot,
            &Key::new("team-a", name),
            None,
            &Facts::default(),
        )
        .entitlement
        .refused
    };
    assert_eq!(decided("default"), decided("second"));
    assert_eq!(decided("default").len(), 1);
}
