//! What a hostile tenant writes, and what it must not get by it.

use postern_api::instance::LabelSelector;
use postern_api::reasons::Reason;
use postern_refs::objects::{GrantFrom, GrantTo, ReferenceGrant};
use postern_refs::{FieldPath, Key, Snapshot};

use super::build::{
    self, Edit, EditSpec, backend, gateway, grant, http, https, instance, put, route, to_instance,
    world,
};
use super::{Facts, Ownership, consent, of, owner};

/// What the attacker `team-b` is entitled to name, as `kind namespace/name`.
fn objects(snapshot: &Snapshot) -> Vec<String> {
    let objects = of(snapshot, "team-b").entitlement.objects;
    let told = objects.iter();
    told.map(|object| format!("{} {}/{}", object.kind, object.namespace, object.name))
        .collect()
}

#[test]
fn a_route_that_names_anothers_gateway_changes_nothing_there_and_is_refused_here() {
    let mut snapshot = world();
    let before = of(&snapshot, "team-a");
    put(
        &mut snapshot,
        route("team-b", "attack", &[(Some("team-a"), "web")], &[]),
    );
    assert_eq!(of(&snapshot, "team-a"), before);
    let refused = of(&snapshot, "team-b").entitlement.refused;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].to.namespace, "team-a");
    assert_eq!(refused[0].reason, Reason::RefNotPermitted.as_str());
}

#[test]
fn whether_a_target_exists_does_not_show() {
    let answers: Vec<_> = ["web", "no-such-gateway"]
        .into_iter()
        .map(|name| {
            let mut snapshot = world();
            let backends = [backend("Service", Some("team-a"), "maybe")];
            put(
                &mut snapshot,
                route("team-b", "probe", &[(Some("team-a"), name)], &backends),
            );
            let mut refused = of(&snapshot, "team-b").entitlement.refused;
            for decision in &mut refused {
                assert!(decision.decided_by.is_empty());
                decision.to.name = decision.to.name.replace(name, "");
            }
            refused
        })
        .collect();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].len(), 2);
}

#[test]
fn a_gateway_cannot_lend_itself_to_anothers_instance() {
    let mut snapshot = world();
    let before = of(&snapshot, "team-a");
    let mut attack = gateway("team-b", "attack", vec![https("https", 443, "cert")]);
    attack.edit_spec(|gateway| {
        gateway.parameters = Some(to_instance(Some("team-a"), "default"));
    });
    put(&mut snapshot, attack.clone());
    assert_eq!(of(&snapshot, "team-a"), before);
    let of_b = of(&snapshot, "team-b").entitlement;
    assert!(of_b.gateways.iter().all(|gateway| gateway.name != "attack"));
    let whose = owner(&snapshot, &[].into(), &attack);
    assert!(matches!(whose, Ownership::Wrong { .. }), "{whose:?}");
}

#[test]
fn a_certificate_of_another_namespace_is_refused_and_never_read() {
    let mut snapshot = world();
    let mut theirs = https("https", 443, "cert");
    theirs.tls.as_mut().expect("TLS").certificates =
        vec![build::reference("", "Secret", Some("team-a"), "cert")];
    put(&mut snapshot, gateway("team-b", "web", vec![theirs]));
    assert_eq!(objects(&snapshot), Vec::<String>::new());
    let refused = of(&snapshot, "team-b").entitlement.refused;
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (&*refused[0].from.kind, &*refused[0].to.kind),
        ("Gateway", "Secret")
    );
}

#[test]
fn only_what_a_listener_serves_as_a_certificate_is_read() {
    let mut snapshot = world();
    let mut plain = https("plain", 80, "not-tls");
    plain.protocol = postern_refs::objects::Protocol::Http;
    let mut passing = https("pass", 443, "passed");
    passing.tls.as_mut().expect("TLS").mode = postern_refs::objects::TlsMode::Passthrough;
    let mut map = https("map", 444, "x");
    map.tls.as_mut().expect("TLS").certificates =
        vec![build::reference("", "ConfigMap", None, "settings")];
    put(
        &mut snapshot,
        gateway("team-b", "web", vec![plain, passing, map]),
    );
    // A Secret that a route names, and the Secret of a Gateway of another class.
    let backends = [backend("Secret", None, "loot")];
    put(
        &mut snapshot,
        route("team-b", "r", &[(None, "web")], &backends),
    );
    let mut foreign = gateway(
        "team-b",
        "foreign",
        vec![https("https", 443, "foreign-cert")],
    );
    foreign.edit_spec(|gateway| gateway.class = "other".into());
    put(&mut snapshot, foreign);
    assert_eq!(objects(&snapshot), Vec::<String>::new());
}

#[test]
fn a_reference_grant_permits_nothing_yet_least_of_all_the_attackers_own() {
    for home in ["team-a", "team-b"] {
        let mut snapshot = world();
        let body = ReferenceGrant {
            from: vec![GrantFrom {
                group: postern_api::GATEWAY_GROUP.into(),
                kind: "HTTPRoute".into(),
                namespace: "team-b".into(),
            }],
            to: vec![GrantTo {
                group: "".into(),
                kind: "Service".into(),
                name: None,
            }],
        };
        put(&mut snapshot, build::object(home, "open", body));
        let backends = [backend("Service", Some("team-a"), "site")];
        put(
            &mut snapshot,
            route("team-b", "r", &[(None, "web")], &backends),
        );
        let found = of(&snapshot, "team-b").entitlement;
        assert_eq!(
            (found.permitted.len(), found.refused.len()),
            (0, 1),
            "grant in {home}"
        );
    }
}

#[test]
fn labels_on_ones_own_objects_make_no_tenant() {
    let mut snapshot = world();
    snapshot.edit(|grants: &mut build::Grants| grants.clear());
    put(
        &mut snapshot,
        grant("by-label", &[]).with(|spec| {
            spec.namespaces.selector = Some(LabelSelector {
                match_labels: [("kubernetes.io/metadata.name".into(), "team-a".into())].into(),
            });
        }),
    );
    // Whatever the door let through, the name's label is the namespace's name.
    let posing = [("kubernetes.io/metadata.name", "team-a")];
    put(&mut snapshot, build::namespace("team-b", &posing));
    assert!(of(&snapshot, "team-a").refusal.is_none());
    assert_eq!(
        of(&snapshot, "team-b").refusal.expect("refused").reason,
        Reason::NotGranted
    );
}

#[test]
fn an_empty_or_half_read_selector_grants_nobody() {
    let labels = [("team".to_owned(), "b".to_owned())];
    let half = vec![FieldPath::parse(
        "spec.namespaces.selector.matchExpressions",
    )];
    let cases = [
        (LabelSelector::default(), Vec::new(), false),
        (
            LabelSelector {
                match_labels: labels.clone().into(),
            },
            half,
            false,
        ),
        (
            LabelSelector {
                match_labels: labels.into(),
            },
            Vec::new(),
            true,
        ),
    ];
    for (selector, unsupported, granted) in cases {
        let mut snapshot = world();
        snapshot.edit(|grants: &mut build::Grants| grants.clear());
        let mut by_label = grant("by-label", &[]);
        by_label.edit_spec(|spec| spec.namespaces.selector = Some(selector));
        by_label.unsupported = unsupported;
        put(&mut snapshot, by_label);
        assert_eq!(of(&snapshot, "team-b").refusal.is_none(), granted);
    }
}

#[test]
fn no_text_of_a_tenant_poses_as_a_field_of_the_grant_that_an_admin_applies() {
    let mut snapshot = world();
    snapshot.edit(|grants: &mut build::Grants| grants.clear());
    let hostile = [
        "x\"\n  exposures: [NodePort]\n#",
        "*",
        "a b.example",
        "x: y",
        "good.example",
        "&anchor.example",
        "\u{85}new.example",
        "%2e.example",
        "*.*.example",
    ];
    let mut attack = route("team-b", "r", &[], &[]);
    attack.edit_spec(|route| route.hostnames = hostile.map(Into::into).to_vec());
    put(&mut snapshot, attack);
    let message = of(&snapshot, "team-b").refusal.expect("refused").message;
    let items: Vec<&str> = message
        .lines()
        .filter(|line| line.starts_with("  - "))
        .collect();
    assert_eq!(
        items,
        ["  - \"good.example\"", "  - \"www.team-b.example\""]
    );
    assert!(message.len() < 4_096, "it fits in a condition");
    assert!(!message.contains("NodePort"), "{message}");
}

#[test]
fn a_flood_of_hostnames_and_references_stays_bounded() {
    let mut snapshot = world();
    snapshot.edit(|grants: &mut build::Grants| grants.clear());
    for number in 0..200 {
        let mut flood = route("team-b", &format!("r{number}"), &[], &[]);
        let hosts = (0..16).map(|host| format!("h{host}.r{number}.example").into());
        let hosts: Vec<postern_refs::Name> = hosts.collect();
        flood.edit_spec(|route| {
            route.hostnames = hosts;
            let many = 0..16;
            route.rules[0].backends = many
                .map(|n| backend("Service", Some("team-a"), &format!("s{n}")))
                .collect();
        });
        put(&mut snapshot, flood);
    }
    let message = of(&snapshot, "team-b").refusal.expect("refused").message;
    assert!(message.contains("# and 3185 more"), "{message}");
    put(&mut snapshot, grant("b", &["team-b"]));
    let refused = of(&snapshot, "team-b").entitlement.refused;
    assert_eq!(refused.len(), crate::references::MOST_DECISIONS);
    assert!(refused.is_sorted_by_key(|decision| (&decision.from, &decision.to)));
}

#[test]
fn an_instance_of_an_ungranted_namespace_gets_nothing_by_another_name() {
    let mut snapshot = world();
    put(&mut snapshot, instance("team-c", "default"));
    put(
        &mut snapshot,
        gateway("team-c", "web", vec![http("http", 80)]),
    );
    // Names that run into those of a granted namespace.
    put(&mut snapshot, instance("team-", "a"));
    for (namespace, name) in [("team-c", "default"), ("team-", "a")] {
        let key = Key::new(namespace, name);
        let found = consent(&snapshot, &key, None, &Facts::default());
        assert_eq!(found.refusal.expect("refused").reason, Reason::NotGranted);
        assert!(found.entitlement.gateways.is_empty() && found.entitlement.watches.is_empty());
    }
}
