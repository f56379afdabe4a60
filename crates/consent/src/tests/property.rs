//! Properties: nothing outside a namespace moves its consent, whatever it is.

use std::sync::Arc;

use postern_refs::{Key, Snapshot};
use proptest::prelude::*;

use super::build::{
    self, EditSpec, backend, gateway, grant, https, instance, namespace, put, route, to_instance,
    world,
};
use super::{Facts, consent};
use crate::{Touched, touched};

/// One change by somebody: what kind of object, in which namespace, and what it points at.
#[derive(Clone, Debug)]
struct Change {
    what: u8,
    namespace: &'static str,
    name: &'static str,
    to: Option<&'static str>,
    target: &'static str,
}

fn changes(namespaces: &'static [&'static str]) -> impl Strategy<Value = Vec<Change>> {
    let names = &["default", "web", "site", "cert", "x"][..];
    let to = &[None, Some("team-a"), Some("team-b"), Some("z")][..];
    let change = (
        0..6_u8,
        proptest::sample::select(namespaces),
        proptest::sample::select(names),
        proptest::sample::select(to),
        proptest::sample::select(names),
    );
    let change = change.prop_map(|(what, namespace, name, to, target)| Change {
        what,
        namespace,
        name,
        to,
        target,
    });
    proptest::collection::vec(change, 1..12)
}

fn apply(snapshot: &mut Snapshot, change: &Change) {
    let Change {
        what,
        namespace: own,
        name,
        to,
        target,
    } = change;
    match what {
        0 => put(snapshot, instance(own, name)),
        1 => {
            let mut new = gateway(own, name, vec![https("https", 443, target)]);
            new.edit_spec(|gateway| gateway.parameters = Some(to_instance(*to, target)));
            put(snapshot, new);
        }
        2 => put(
            snapshot,
            route(
                own,
                name,
                &[(*to, target)],
                &[backend("Service", *to, target)],
            ),
        ),
        3 => {
            let labels = [("team", "a"), ("kubernetes.io/metadata.name", "team-a")];
            put(snapshot, namespace(own, &labels));
        }
        4 => {
            let key = Key::new(*own, *name);
            Arc::make_mut(&mut snapshot.gateways).remove(&key);
        }
        _ => {
            let mut cert = https("https", 8443, target);
            cert.tls.as_mut().expect("TLS").certificates =
                vec![build::reference("", "Secret", *to, target)];
            put(snapshot, gateway(own, name, vec![cert]));
        }
    }
}

fn of_all(snapshot: &Snapshot) -> Vec<(Key, super::Consent)> {
    let tenants = snapshot.instances.keys().cloned();
    tenants
        .map(|key| {
            (
                key.clone(),
                consent(snapshot, &key, None, &Facts::default()),
            )
        })
        .collect()
}

proptest! {
    #[test]
    fn objects_of_other_namespaces_never_change_a_tenants_consent(
        changes in changes(&["team-b", "team-", "team-aa", "z"])
    ) {
        let mut snapshot = world();
        // What a tenant may not do, but an admin may for another: it must not matter either.
        let before = consent(&snapshot, &Key::new("team-a", "default"), None, &Facts::default());
        for change in &changes {
            apply(&mut snapshot, change);
        }
        put(&mut snapshot, grant("for-others", &["team-", "team-aa", "z"]));
        let after = consent(&snapshot, &Key::new("team-a", "default"), None, &Facts::default());
        prop_assert_eq!(before, after);
    }

    #[test]
    fn nothing_a_tenant_writes_entitles_it_outside_its_namespace(
        changes in changes(&["team-b"])
    ) {
        let mut snapshot = world();
        for change in &changes {
            apply(&mut snapshot, change);
        }
        for (key, found) in of_all(&snapshot) {
            let own = &*key.namespace;
            let entitlement = &found.entitlement;
            prop_assert!(entitlement.permitted.is_empty());
            prop_assert!(entitlement.objects.iter().all(|object| object.namespace == own));
            prop_assert!(entitlement.watches.iter().all(|watch| watch.namespace == own));
            prop_assert!(entitlement.gateways.iter().all(|gateway| gateway.namespace == own));
            let leaves = |decision: &postern_api::entitlement::Decision| {
                decision.from.namespace == own && decision.to.namespace != own
            };
            prop_assert!(entitlement.refused.iter().all(leaves));
        }
    }

    #[test]
    fn whoever_is_not_touched_has_the_same_consent(
        changes in changes(&["team-a", "team-b", "z"])
    ) {
        let old = world();
        let mut new = old.clone();
        for change in &changes {
            apply(&mut new, change);
        }
        let Touched::Namespaces(namespaces) = touched(&old, &new) else {
            return Err(TestCaseError::fail("no admin changed anything"));
        };
        let before = of_all(&old);
        for (key, found) in of_all(&new) {
            if !namespaces.contains(&key.namespace) {
                prop_assert!(before.contains(&(key, found)));
            }
        }
    }
}

#[test]
fn an_admins_change_touches_all_and_no_change_nobody() {
    let old = world();
    assert_eq!(touched(&old, &old.clone()), Touched::Namespaces([].into()));
    let mut new = old.clone();
    put(&mut new, grant("another", &[]));
    assert_eq!(touched(&old, &new), Touched::All);
    assert_eq!(touched(&new, &old), Touched::All);
    let mut new = old.clone();
    put(&mut new, namespace("team-b", &[]));
    assert_eq!(
        touched(&old, &new),
        Touched::Namespaces(["team-b".into()].into())
    );
    let mut new = old.clone();
    Arc::make_mut(&mut new.http_routes).remove(&Key::new("team-b", "site"));
    assert_eq!(
        touched(&old, &new),
        Touched::Namespaces(["team-b".into()].into())
    );
}
