//! What was stamped stays as it was stamped, and what was not stays as it is.

use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{World, eventually};

/// Waits until nothing changes any more, then that nothing does for a while.
pub async fn a_system_at_rest_writes_nothing(world: &World) {
    let all = || async {
        let instance = world.there("team-a", "GatewayInstance", "default").await;
        let class = world
            .cluster_api("GatewayClass")
            .get("postern")
            .await
            .expect("a class");
        let versions = [instance, class].map(|object| object.metadata.resource_version);
        (world.stamped("team-a").await, versions)
    };
    let mut before = all().await;
    eventually("a second without a write", || {
        let seen = before.clone();
        let all = &all;
        let before = &mut before;
        let _ = &before;
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = all().await;
            (now == seen).then_some(())
        }
    })
    .await;
    before = all().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(all().await, before, "five seconds without a write");
    assert!(before.0.len() >= 15, "{:?}", before.0);
}

pub async fn drift_is_put_back(world: &World) {
    let deployment = ("team-a", "Deployment", "postern-default-envoy");
    let right = world
        .there("team-a", "Deployment", "postern-default-envoy")
        .await;
    let pod = "/spec/template/spec";
    let drifts = [
        json!({"op": "add", "path": format!("{pod}/containers/-"),
               "value": {"name": "sidecar", "image": "evil.example/x:1"}}),
        json!({"op": "add", "path": format!("{pod}/containers/0/args/-"), "value": "--evil"}),
        json!({"op": "add", "path": format!("{pod}/containers/0/env/-"),
               "value": {"name": "LD_PRELOAD", "value": "/evil.so"}}),
        json!({"op": "add", "path": format!("{pod}/hostNetwork"), "value": true}),
        json!({"op": "add", "path": format!("{pod}/initContainers"),
               "value": [{"name": "init", "image": "evil.example/x:1"}]}),
        json!({"op": "replace", "path": "/spec/replicas", "value": 7}),
    ];
    for drift in drifts {
        patch(world, deployment, &json!([drift])).await;
        world
            .becomes(deployment, &format!("put back: {drift}"), |found| {
                found.data["spec"] == right.data["spec"]
            })
            .await;
    }
    // Metadata, and other kinds.
    patch(
        world,
        deployment,
        &json!([{"op": "remove", "path": "/metadata/labels"}]),
    )
    .await;
    world
        .becomes(deployment, "labels are put back", |found| {
            found.metadata.labels == right.metadata.labels
        })
        .await;
    let policy = ("team-a", "NetworkPolicy", "postern-default-envoy");
    let right = world.there(policy.0, policy.1, policy.2).await;
    let open = json!([{"op": "add", "path": "/spec/ingress/-", "value": {}}]);
    patch(world, policy, &open).await;
    world
        .becomes(policy, "an open policy is closed", |found| {
            found.data["spec"] == right.data["spec"]
        })
        .await;
    let role = ("team-a", "Role", "postern-default-secrets");
    let more = json!([{"op": "replace", "path": "/rules/0/resourceNames", "value": ["cert", "x"]}]);
    patch(world, role, &more).await;
    world
        .becomes(role, "a Role says no more than before", |found| {
            found.data["rules"][0]["resourceNames"] == json!(["cert"])
        })
        .await;
    let api = world.api("team-a", "RoleBinding");
    api.delete("postern-default-reader", &DeleteParams::default())
        .await
        .expect("deleted");
    world
        .there("team-a", "RoleBinding", "postern-default-reader")
        .await;
}

pub async fn patch(world: &World, (namespace, kind, name): (&str, &str, &str), patch: &Value) {
    let patch = serde_json::from_value(patch.clone()).expect("a patch");
    let patch: Patch<()> = Patch::Json(patch);
    let api = world.api(namespace, kind);
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .expect("patched");
}

pub async fn nothing_is_adopted(world: &World) {
    let api = world.api("team-a", "Service");
    let foreign: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "postern-second-controlplane",
            // Whatever it claims to be.
            "labels": {"app.kubernetes.io/managed-by": "postern-operator"},
        },
        "spec": {"ports": [{"port": 1}]},
    }))
    .expect("a Service");
    let made = api
        .create(&PostParams::default(), &foreign)
        .await
        .expect("made");
    world.apply(
        "{apiVersion: postern.dev/v1alpha1, kind: GatewayInstance, \
         metadata: {name: second, namespace: team-a}, spec: {}}",
    );
    let message = world
        .reason(("team-a", "second"), "Ready", "NameInUse")
        .await;
    assert!(
        message.contains("Service team-a/postern-second-controlplane"),
        "{message}"
    );
    let after = api.get("postern-second-controlplane").await.expect("there");
    assert_eq!(after, made, "it was left alone");
    // Its neighbours are not kept from working by it.
    world
        .there("team-a", "ServiceAccount", "postern-second-controlplane")
        .await;
    api.delete("postern-second-controlplane", &DeleteParams::default())
        .await
        .expect("deleted");
    world
        .reason(("team-a", "second"), "Ready", "Progressing")
        .await;
}
