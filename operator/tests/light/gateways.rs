//! Gateways without a control plane, the Lease, and the GatewayClass.

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::INSTANCE;
use crate::harness::{World, condition, eventually};

pub async fn gateways_without_a_control_plane_say_so(world: &World) {
    world.apply(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: lost, namespace: team-a}
spec: {gatewayClassName: postern, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: served, namespace: team-a}
spec: {parentRefs: [{name: lost}]}
",
    );
    let entry = json!({"status": {"parents": [{
        "controllerName": "postern.dev/gateway-controller",
        "parentRef": {"name": "lost"},
        "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }]}});
    let routes = world.api("team-a", "HTTPRoute");
    let merge = Patch::Merge(&entry);
    routes
        .patch_status("served", &PatchParams::default(), &merge)
        .await
        .expect("patched");
    let lost = world
        .becomes(
            ("team-a", "Gateway", "lost"),
            "it says that its instance is missing",
            |found| {
                condition(found, "Accepted").is_some_and(|c| c["reason"] == "InvalidParameters")
            },
        )
        .await;
    let message = condition(&lost, "Accepted").expect("seen")["message"].to_string();
    assert!(message.contains("no GatewayInstance default"), "{message}");
    // Routes are their control plane's: the operator, which sees them, takes no entry away.
    let route = routes.get("served").await.expect("a route");
    assert_eq!(
        route.data["status"]["parents"][0]["parentRef"]["name"],
        "lost"
    );
    // As soon as there is a control plane, the status is its own.
    world.apply(INSTANCE);
    world
        .there("team-a", "Service", "postern-lost-gateway")
        .await;
    let programmed = json!({"status": {"conditions": [{
        "type": "Accepted", "status": "True", "reason": "Accepted", "message": "by another",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    let gateways = world.api("team-a", "Gateway");
    let merge = Patch::Merge(&programmed);
    gateways
        .patch_status("lost", &PatchParams::default(), &merge)
        .await
        .expect("patched");
    // Whatever the operator does next, it is done before this.
    let lost_too = "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, \
         metadata: {name: lost-too, namespace: default}, \
         spec: {gatewayClassName: postern, listeners: [{name: http, port: 80, protocol: HTTP}]}}";
    world.apply(lost_too);
    world
        .becomes(
            ("default", "Gateway", "lost-too"),
            "another one says so",
            |found| condition(found, "Accepted").is_some_and(|c| c["reason"] == "NotGranted"),
        )
        .await;
    let lost = gateways.get("lost").await.expect("a Gateway");
    assert_eq!(
        condition(&lost, "Accepted").expect("there")["message"],
        "by another"
    );
}

/// One that stops in order lets the next begin at once, under another name.
pub async fn the_lease_is_let_go(world: &mut World) {
    world.stop_operator().await;
    let deployments = world.api("team-a", "Deployment");
    let name = "postern-default-envoy";
    deployments
        .delete(name, &DeleteParams::default())
        .await
        .expect("deleted");
    world.start_operator_named("postern-operator-1").await;
    world.there("team-a", "Deployment", name).await;
}

pub async fn a_foreign_class_is_left_alone(world: &World) {
    let classes = world.cluster_api("GatewayClass");
    let foreign: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "postern"}, "spec": {"controllerName": "other.example/controller"},
    }))
    .expect("a class");
    // The operator makes its own again as soon as it is gone: the other one must be faster.
    let made = eventually("the foreign one was faster", || async {
        let _ = classes.delete("postern", &DeleteParams::default()).await;
        classes.create(&PostParams::default(), &foreign).await.ok()
    })
    .await;
    let message = world
        .reason(("team-a", "default"), "Ready", "NameInUse")
        .await;
    assert!(message.contains("postern"), "{message}");
    let after = classes.get("postern").await.expect("a class");
    assert_eq!(after.metadata.uid, made.metadata.uid);
    assert_eq!(
        after.metadata.resource_version,
        made.metadata.resource_version
    );
    classes
        .delete("postern", &DeleteParams::default())
        .await
        .expect("deleted");
    world
        .reason(("team-a", "default"), "Ready", "Progressing")
        .await;
}
