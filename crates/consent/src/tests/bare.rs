//! What is made for Gateways that name no instance, and for whom nothing is made.

use std::sync::Arc;

use postern_api::GatewayInstanceSpec;
use postern_api::grant::InstanceTemplate;
use postern_api::instance::{ExposureType, LoadBalancerExposure};
use postern_api::reasons::Reason;
use postern_refs::{Body, FieldPath, Key, Object, Snapshot};

use super::build::{
    Edit, EditSpec, Grants, gateway, grant, http, instance, put, to_instance, world,
};
use crate::{Facts, Missing, Refusal, bare_gateways, consent, missing, with_missing};

type Instances = std::collections::BTreeMap<Key, Arc<Object<GatewayInstanceSpec>>>;

fn template(kind: ExposureType) -> Option<InstanceTemplate> {
    let mut template = InstanceTemplate::default();
    template.exposure.kind = kind;
    template.proxy.replicas = Some(2);
    Some(template)
}

/// Team-a has a Gateway and a grant with a template, and no instance.
fn without_instance() -> Snapshot {
    let mut snapshot = world();
    snapshot.edit(|instances: &mut Instances| instances.clear());
    let with = |spec: &mut postern_api::TenantGrantSpec| {
        spec.hostnames = vec!["*.team-a.example".into()];
        spec.instance_template = template(ExposureType::ClusterIP);
    };
    put(&mut snapshot, grant("a", &["team-a"]).with(with));
    snapshot
}

fn of(snapshot: &Snapshot, namespace: &str) -> Option<Result<Missing, Refusal>> {
    missing(snapshot, &Key::new(namespace, "default"), &Facts::default())
}

fn refused(snapshot: &Snapshot) -> (Reason, String) {
    let refusal = of(snapshot, "team-a")
        .expect("needed")
        .expect_err("refused");
    (refusal.reason, refusal.message)
}

#[test]
fn a_bare_gateway_gets_an_instance_from_the_grants_template() {
    let mut snapshot = without_instance();
    let mut older = gateway("team-a", "older", vec![http("http", 80)]);
    older.meta.created = -5;
    put(&mut snapshot, older);
    let made = of(&snapshot, "team-a").expect("needed").expect("made");
    assert_eq!(made.key, Key::new("team-a", "default"));
    assert_eq!(&*made.grant, "a");
    assert_eq!(made.spec.proxy.replicas, Some(2));
    assert!(made.spec.listeners.is_empty());
    let owners: Vec<(&str, &str)> = made
        .gateways
        .iter()
        .map(|gateway| (&*gateway.name, &*gateway.uid))
        .collect();
    let expected = [("older", "uid-team-a/older"), ("web", "uid-team-a/web")];
    assert_eq!(owners, expected, "the oldest first");

    // Where nobody makes it, it is put into the Snapshot, and judged as any other.
    let complete = with_missing(snapshot, &Facts::default());
    let key = Key::new("team-a", "default");
    let found = consent(&complete, &key, None, &Facts::default());
    assert_eq!(found.refusal, None);
    assert_eq!(found.entitlement.gateways.len(), 2);
    assert_eq!(of(&complete, "team-a"), None, "it is there");
    assert!(
        !complete
            .instances
            .contains_key(&Key::new("team-b", "default"))
    );
}

#[test]
fn nothing_is_made_where_nobody_needs_it() {
    // It is there, whatever it says, and whether or not it can be read.
    let mut snapshot = without_instance();
    let mut mine = instance("team-a", "default");
    mine.body = Body::Invalid {
        field: FieldPath::parse("spec.proxy"),
        reason: "no".into(),
    };
    put(&mut snapshot, mine);
    assert_eq!(of(&snapshot, "team-a"), None);

    // The Gateway names one, there or not, even the one of this name.
    for name in ["default", "absent"] {
        let mut snapshot = without_instance();
        let named = gateway("team-a", "web", vec![http("http", 80)])
            .with(|gateway| gateway.parameters = Some(to_instance(None, name)));
        put(&mut snapshot, named);
        assert_eq!(of(&snapshot, "team-a"), None, "{name}");
        assert_eq!(
            missing(&snapshot, &Key::new("team-a", name), &Facts::default()),
            None
        );
    }

    // It cannot be read, so its class may be anybody's.
    let mut snapshot = without_instance();
    let mut unread = gateway("team-a", "web", Vec::new());
    unread.body = Body::Invalid {
        field: FieldPath::parse("spec.listeners"),
        reason: "no".into(),
    };
    put(&mut snapshot, unread);
    assert_eq!(of(&snapshot, "team-a"), None);
}

/// Whatever another namespace or another controller has, nothing is made for it.
#[test]
fn others_gateways_make_nothing() {
    let mut snapshot = without_instance();
    for class in ["other", "unknown"] {
        let theirs = gateway("team-a", "web", vec![http("http", 80)])
            .with(|gateway| gateway.class = class.into());
        put(&mut snapshot, theirs);
        assert_eq!(of(&snapshot, "team-a"), None, "{class}");
    }
    // A grant of one namespace is none of another's, nor is a template.
    let refusal = of(&snapshot, "team-b")
        .expect("needed")
        .expect_err("refused");
    assert_eq!(refusal.reason, Reason::InvalidParameters);
    snapshot.edit(|grants: &mut Grants| drop(grants.remove(&Key::new("", "b-only"))));
    let refusal = of(&snapshot, "team-b")
        .expect("needed")
        .expect_err("refused");
    assert_eq!(refusal.reason, Reason::NotGranted);
    // By any name but `default`.
    let other = Key::new("team-a", "other");
    assert_eq!(
        missing(&without_instance(), &other, &Facts::default()),
        None
    );
}

#[test]
fn without_a_grant_the_proposed_one_lets_the_gateway_work() {
    let mut snapshot = without_instance();
    snapshot.edit(|grants: &mut Grants| drop(grants.remove(&Key::new("", "a"))));
    let (reason, message) = refused(&snapshot);
    assert_eq!(reason, Reason::NotGranted);
    let (_, yaml) = message
        .split_once(":\n")
        .expect("YAML after the first line");
    assert!(
        yaml.ends_with("  - \"www.team-a.example\"\n  instanceTemplate: {}\n"),
        "{yaml}"
    );
    // What the message says is what makes it work.
    let with = |spec: &mut postern_api::TenantGrantSpec| {
        spec.instance_template = Some(InstanceTemplate::default());
    };
    put(&mut snapshot, grant("team-a", &["team-a"]).with(with));
    assert!(matches!(of(&snapshot, "team-a"), Some(Ok(_))));
}

#[test]
fn a_grant_without_a_template_is_told_by_name() {
    let mut snapshot = without_instance();
    put(&mut snapshot, grant("a", &["team-a"]));
    put(&mut snapshot, grant("too", &["team-a"]));
    let (reason, message) = refused(&snapshot);
    assert_eq!(reason, Reason::InvalidParameters);
    assert!(
        message.contains("no TenantGrant on it (a, too) has a spec.instanceTemplate"),
        "{message}"
    );
}

/// A template gives no more than the grants do.
#[test]
fn a_template_beyond_the_grants_makes_nothing() {
    let asking = |kind: ExposureType| {
        grant("a", &["team-a"]).with(|spec| spec.instance_template = template(kind))
    };
    let mut snapshot = without_instance();
    put(&mut snapshot, asking(ExposureType::NodePort));
    let (reason, message) = refused(&snapshot);
    assert_eq!(reason, Reason::ExposureNotGranted);
    assert!(
        message.starts_with(
            "no GatewayInstance default is made from spec.instanceTemplate of the TenantGrant a, \
             since it would get nothing: spec.exposure.type: NodePort is not granted"
        ),
        "{message}"
    );
    assert!(
        with_missing(snapshot.clone(), &Facts::default())
            .instances
            .is_empty()
    );
    // Another grant on the namespace may give it; one on another namespace does not.
    let more = |namespace: &str| {
        grant("more", &[namespace]).with(|spec| spec.exposures = vec![ExposureType::NodePort])
    };
    put(&mut snapshot, more("team-b"));
    assert_eq!(refused(&snapshot).0, Reason::ExposureNotGranted);
    put(&mut snapshot, more("team-a"));
    assert!(matches!(of(&snapshot, "team-a"), Some(Ok(_))));

    let pool = grant("a", &["team-a"]).with(|spec| {
        spec.exposures = vec![ExposureType::LoadBalancer];
        spec.address_pools = vec!["edge".into()];
        spec.instance_template = template(ExposureType::LoadBalancer).map(|mut template| {
            template.exposure.load_balancer = Some(LoadBalancerExposure {
                address_pool: Some("others".into()),
                ..LoadBalancerExposure::default()
            });
            template
        });
    });
    put(&mut snapshot, pool);
    assert_eq!(refused(&snapshot).0, Reason::AddressPoolNotGranted);

    // What the cluster has not.
    let routes = asking(ExposureType::Route).with(|spec| {
        spec.exposures = vec![ExposureType::Route];
    });
    put(&mut snapshot, routes);
    assert_eq!(refused(&snapshot).0, Reason::NotServed);
    let served = Facts {
        routes_served: true,
        ..Facts::default()
    };
    let key = Key::new("team-a", "default");
    assert!(matches!(missing(&snapshot, &key, &served), Some(Ok(_))));
}

#[test]
fn the_oldest_template_counts_and_one_that_is_not_understood_makes_nothing() {
    let mut snapshot = without_instance();
    let mut older = grant("z-older", &["team-a"]).with(|spec| {
        spec.exposures = vec![ExposureType::NodePort];
        spec.instance_template = template(ExposureType::NodePort);
    });
    older.meta.created = -5;
    put(&mut snapshot, older.clone());
    // The oldest of all has none.
    let mut oldest = grant("oldest", &["team-a"]);
    oldest.meta.created = -9;
    put(&mut snapshot, oldest);
    let made = of(&snapshot, "team-a").expect("needed").expect("made");
    assert_eq!(&*made.grant, "z-older");
    assert_eq!(made.spec.exposure.kind, ExposureType::NodePort);

    older.unsupported = vec![FieldPath::parse("spec.quotas.magic")];
    put(&mut snapshot, older.clone());
    assert!(matches!(of(&snapshot, "team-a"), Some(Ok(_))));
    older.unsupported = vec![FieldPath::parse("spec.instanceTemplate.magic")];
    put(&mut snapshot, older);
    let (reason, message) = refused(&snapshot);
    assert_eq!(reason, Reason::UnsupportedValue);
    assert!(message.contains("spec.instanceTemplate.magic"), "{message}");
}

/// However many Gateways a tenant makes, what is written for them stays small.
#[test]
fn owners_are_few() {
    let mut snapshot = without_instance();
    for number in 0..1_000 {
        let name = format!("g{number:04}");
        put(&mut snapshot, gateway("team-a", &name, Vec::new()));
    }
    let key = Key::new("team-a", "default");
    let all = bare_gateways(&snapshot, &key, &Facts::default());
    assert_eq!((all.len(), &*all[0].name), (32, "g0000"));
    let made = of(&snapshot, "team-a").expect("needed").expect("made");
    assert_eq!(made.gateways, all);
}
