//! What is told of the use of quotas.

use postern_api::instance::Used;
use postern_refs::{Body, FieldPath, Key, Snapshot};

use super::build::{EditSpec, gateway, http, instance, put, route, to_instance, world};
use crate::{Facts, consent};

fn used(snapshot: &Snapshot, name: &str) -> Option<Used> {
    consent(snapshot, &Key::new("team-a", name), None, &Facts::default()).used
}

#[test]
fn use_is_counted_as_quotas_count_it() {
    let mut snapshot = world();
    let count = |routes: u32, listeners: u32| Some(Used { routes, listeners });
    assert_eq!(used(&snapshot, "default"), count(1, 2));
    // By two of its Gateways, or by one and another's: one route.
    put(
        &mut snapshot,
        gateway("team-a", "more", vec![http("http", 81)]),
    );
    let parents = [(None, "web"), (None, "more"), (Some("team-b"), "web")];
    put(&mut snapshot, route("team-a", "both", &parents, &[]));
    assert_eq!(used(&snapshot, "default"), count(2, 3));
    // Whether or not a listener takes it, and not if it names nobody or does not read.
    let mut refused = route("team-a", "refused", &[(None, "web")], &[]);
    refused.edit_spec(|route| route.parents[0].section = Some("absent".into()));
    put(&mut snapshot, refused);
    put(
        &mut snapshot,
        route("team-a", "none", &[(None, "gone")], &[]),
    );
    let mut broken = route("team-a", "broken", &[(None, "web")], &[]);
    broken.body = Body::Invalid {
        field: FieldPath::parse("spec.rules"),
        reason: "no".into(),
    };
    put(&mut snapshot, broken);
    assert_eq!(used(&snapshot, "default"), count(3, 3));

    // Another instance's is its own.
    put(&mut snapshot, instance("team-a", "second"));
    let other = gateway("team-a", "other", vec![http("http", 80)])
        .with(|gateway| gateway.parameters = Some(to_instance(None, "second")));
    put(&mut snapshot, other);
    put(
        &mut snapshot,
        route("team-a", "theirs", &[(None, "other")], &[]),
    );
    assert_eq!(used(&snapshot, "second"), count(1, 1));
    assert_eq!(used(&snapshot, "default"), count(3, 3));
    assert_eq!(used(&snapshot, "absent"), None);
}

/// Nobody else uses up what is a tenant's, nor shows in its status that it tries.
#[test]
fn routes_of_other_namespaces_use_nothing() {
    let mut snapshot = world();
    let before = used(&snapshot, "default");
    for number in 0..50 {
        let name = format!("r{number}");
        let parents = [(Some("team-a"), "web")];
        put(&mut snapshot, route("team-b", &name, &parents, &[]));
    }
    assert_eq!(used(&snapshot, "default"), before);
}
