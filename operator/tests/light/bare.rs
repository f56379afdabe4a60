//! Gateways that name no instance: one is made from a grant's template, once, and is then its
//! tenant's.

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::drift::patch;
use crate::harness::{World, condition, eventually};

const TEAM: &str = "team-bare";
const DEFAULT: (&str, &str, &str) = (TEAM, "GatewayInstance", "default");

fn gateway(world: &World, namespace: &str, name: &str, class: &str) {
    world.apply(&format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, \
         metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{gatewayClassName: {class}, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}}}"
    ));
}

/// A grant with a template, or with none.
fn grant(world: &World, template: &str) {
    world.apply(&format!(
        "{{apiVersion: postern.dev/v1alpha1, kind: TenantGrant, metadata: {{name: bare}}, \
         spec: {{namespaces: {{names: [{TEAM}]}}, hostnames: ['*'], exposures: [ClusterIP]{template}}}}}"
    ));
}

async fn says(world: &World, namespace: &str, name: &str, reason: &str) -> String {
    let what = format!("the Gateway {namespace}/{name} says {reason}");
    let found = world
        .becomes((namespace, "Gateway", name), &what, |found| {
            condition(found, "Accepted").is_some_and(|found| found["reason"] == reason)
        })
        .await;
    let told = condition(&found, "Accepted").expect("seen");
    told["message"].as_str().unwrap_or_default().to_owned()
}

fn owners(object: &DynamicObject) -> Vec<String> {
    let owners = object.metadata.owner_references.iter().flatten();
    owners
        .map(|owner| format!("{} {}", owner.kind, owner.name))
        .collect()
}

pub async fn a_bare_gateway_gets_an_instance(world: &World) {
    world.namespace(TEAM).await;
    world.namespace("team-none").await;
    gateway(world, TEAM, "web", "postern");
    gateway(world, "team-none", "web", "postern");
    let message = says(world, TEAM, "web", "NotGranted").await;
    assert!(message.ends_with("  instanceTemplate: {}\n"), "{message}");
    grant(world, "");
    let message = says(world, TEAM, "web", "InvalidParameters").await;
    assert!(message.contains("no TenantGrant on it (bare) has a spec.instanceTemplate"));
    // A template beyond the grants.
    grant(world, ", instanceTemplate: {exposure: {type: NodePort}}");
    let message = says(world, TEAM, "web", "ExposureNotGranted").await;
    assert!(message.contains("TenantGrant bare"), "{message}");
    assert!(instances(world, TEAM).await.is_empty());

    grant(world, ", instanceTemplate: {proxy: {replicas: 2}}");
    let made = world.there(DEFAULT.0, DEFAULT.1, DEFAULT.2).await;
    assert_eq!(owners(&made), ["Gateway web"]);
    let annotations = made.metadata.annotations.as_ref().expect("annotations");
    assert_eq!(annotations["postern.dev/made-from-grant"], "bare");
    assert_eq!(made.data["spec"]["proxy"]["replicas"], 2);
    world
        .reason((TEAM, "default"), "Accepted", "Accepted")
        .await;
    world.there(TEAM, "Service", "postern-web-gateway").await;

    later_gateways_own_it(world).await;
    what_its_tenant_writes_stays(world).await;
    one_that_is_deleted_is_made_again(world).await;
    one_that_a_tenant_made_is_left_alone(world).await;
    for namespace in ["team-none", "default"] {
        let found = instances(world, namespace).await;
        assert!(found.is_empty(), "{namespace}: {found:?}");
    }
}

async fn instances(world: &World, namespace: &str) -> Vec<String> {
    let api = world.api(namespace, "GatewayInstance");
    let all = api.list(&Default::default()).await.expect("a list").items;
    all.into_iter()
        .filter_map(|object| object.metadata.name)
        .collect()
}

/// And by the operator's own rights, on an API server that protects owners.
async fn later_gateways_own_it(world: &World) {
    gateway(world, TEAM, "later", "postern");
    // Another controller's, and one that names its instance, need it not.
    world.apply(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: theirs}, \
         spec: {controllerName: other.example/controller}}",
    );
    gateway(world, TEAM, "foreign", "theirs");
    let both = |found: &DynamicObject| owners(found) == ["Gateway web", "Gateway later"];
    world.becomes(DEFAULT, "both own it", both).await;
    let api = world.api(TEAM, "Gateway");
    for name in ["later", "foreign"] {
        api.delete(name, &DeleteParams::default())
            .await
            .expect("deleted");
    }
    // No garbage collection here.
    world.gone(TEAM, "Service", "postern-later-gateway").await;
}

async fn what_its_tenant_writes_stays(world: &World) {
    let api = world.api(TEAM, "GatewayInstance");
    let own = json!({"spec": {"proxy": {"replicas": 3}, "clients": {"from": "All"}}});
    api.patch("default", &PatchParams::default(), &Patch::Merge(&own))
        .await
        .expect("patched");
    // Nor does another template change it, nor none.
    grant(world, ", instanceTemplate: {proxy: {replicas: 5}}");
    grant(world, "");
    world
        .becomes(
            (TEAM, "Deployment", "postern-default-envoy"),
            "3",
            |found| found.data["spec"]["replicas"] == 3,
        )
        .await;
    let found = world.there(DEFAULT.0, DEFAULT.1, DEFAULT.2).await;
    assert_eq!(found.data["spec"]["proxy"]["replicas"], 3);
    assert_eq!(found.data["spec"]["clients"]["from"], "All");
}

async fn one_that_is_deleted_is_made_again(world: &World) {
    let first = world.there(DEFAULT.0, DEFAULT.1, DEFAULT.2).await;
    let api = world.api(TEAM, "GatewayInstance");
    let delete = || async {
        api.delete("default", &DeleteParams::default())
            .await
            .expect("deleted");
    };
    delete().await;
    let message = says(world, TEAM, "web", "InvalidParameters").await;
    assert!(message.contains("(bare) has a spec.instanceTemplate"));
    grant(world, ", instanceTemplate: {}");
    let again = world.there(DEFAULT.0, DEFAULT.1, DEFAULT.2).await;
    assert_ne!(again.metadata.uid, first.metadata.uid);
    // Deleted as soon as it is there, again and again: it comes back.
    for _ in 0..5 {
        world.there(DEFAULT.0, DEFAULT.1, DEFAULT.2).await;
        delete().await;
    }
    world
        .reason((TEAM, "default"), "Accepted", "Accepted")
        .await;
    // Without its Gateway it stays away.
    let gateways = world.api(TEAM, "Gateway");
    gateways
        .delete("web", &DeleteParams::default())
        .await
        .expect("deleted");
    world.gone(TEAM, "Service", "postern-web-gateway").await;
    delete().await;
    world
        .gone(TEAM, "Deployment", "postern-default-envoy")
        .await;
    assert!(instances(world, TEAM).await.is_empty());
}

/// Whatever it bears: our mark, an owner that is no more, the name of our field manager.
async fn one_that_a_tenant_made_is_left_alone(world: &World) {
    world.apply(&format!(
        "{{apiVersion: postern.dev/v1alpha1, kind: GatewayInstance, \
         metadata: {{name: default, namespace: {TEAM}, \
         annotations: {{postern.dev/made-from-grant: bare}}, \
         labels: {{app.kubernetes.io/managed-by: postern-operator}}}}, \
         spec: {{proxy: {{replicas: 4}}}}}}"
    ));
    world
        .reason((TEAM, "default"), "Accepted", "Accepted")
        .await;
    gateway(world, TEAM, "web", "postern");
    world.there(TEAM, "Service", "postern-web-gateway").await;
    let found = world.there(DEFAULT.0, DEFAULT.1, DEFAULT.2).await;
    assert_eq!(owners(&found), Vec::<String>::new());
    assert_eq!(found.data["spec"]["proxy"]["replicas"], 4);
    // With an owner of its own making: to own is to keep alive, and all that ever comes of it.
    let uid = "00000000-0000-0000-0000-000000000000";
    let forged = json!([{"op": "add", "path": "/metadata/ownerReferences", "value": [{
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "x", "uid": uid,
    }]}]);
    patch(world, DEFAULT, &forged).await;
    gateway(world, TEAM, "next", "postern");
    let kept = |found: &DynamicObject| owners(found).contains(&"Gateway next".to_owned());
    let after = world
        .becomes(DEFAULT, "its Gateways keep it alive", kept)
        .await;
    assert_eq!(
        after.data["spec"], found.data["spec"],
        "nothing else changed"
    );
    assert_eq!(after.metadata.uid, found.metadata.uid);
    assert_eq!(after.metadata.annotations, found.metadata.annotations);
    let generation = |object: &DynamicObject| object.metadata.generation;
    assert_eq!(generation(&after), generation(&found));
    let gone: Vec<&str> = vec!["web", "next"];
    for name in gone {
        world
            .api(TEAM, "Gateway")
            .delete(name, &DeleteParams::default())
            .await
            .expect("deleted");
    }
}

/// What an API server refuses is told to those who wait for it, and tried again.
pub async fn a_refusal_is_told_where_the_gateway_is(world: &World) {
    let policy = |action: &str| -> Vec<Value> {
        let rule = "object.metadata.namespace != 'team-full'";
        vec![
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "full"},
                "spec": {
                    "failurePolicy": "Fail",
                    "matchConstraints": {"resourceRules": [{
                        "apiGroups": ["postern.dev"], "apiVersions": ["*"],
                        "operations": ["CREATE"], "resources": ["gatewayinstances"],
                    }]},
                    "validations": [{"expression": rule, "message": "the namespace is full"}],
                },
            }),
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "full"},
                "spec": {"policyName": "full", "validationActions": [action]},
            }),
        ]
    };
    world.namespace("team-full").await;
    for object in policy("Deny") {
        world.apply(&object.to_string());
    }
    // Policies take effect a moment after they are there.
    let instance = "{apiVersion: postern.dev/v1alpha1, kind: GatewayInstance, \
         metadata: {name: probe, namespace: team-full}, spec: {}}";
    eventually("the policy refuses", || async {
        let asked = ["create", "--dry-run=server", "-f", "-"];
        (!world.may(&asked, instance)).then_some(())
    })
    .await;
    gateway(world, "team-full", "web", "postern");
    world.apply(
        "{apiVersion: postern.dev/v1alpha1, kind: TenantGrant, metadata: {name: full}, \
         spec: {namespaces: {names: [team-full]}, hostnames: ['*'], exposures: [ClusterIP], \
         instanceTemplate: {}}}",
    );
    let message = says(world, "team-full", "web", "WriteRefused").await;
    assert!(message.contains("the namespace is full"), "{message}");
    assert!(message.contains("TenantGrant full"), "{message}");
    for object in policy("Audit") {
        world.apply(&object.to_string());
    }
    world.there("team-full", "GatewayInstance", "default").await;
}
