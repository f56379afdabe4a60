//! The operator on a real API server, under the rights that the bundle asks for.
//!
//! The light cluster has no controllers: no pod runs and nothing is garbage-collected, so what
//! goes here is taken away by the operator itself.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "all of this program is a test"
)]

mod bare;
mod drift;
mod exposure;
mod gateways;
mod harness;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use harness::{World, condition, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_keeps_what_it_stamped_and_nothing_else() {
    let mut world = World::up().await;
    world.start_operator().await;
    gateway_class(&world).await;
    a_grant_makes_a_tenant(&world).await;
    drift::a_system_at_rest_writes_nothing(&world).await;
    drift::drift_is_put_back(&world).await;
    drift::nothing_is_adopted(&world).await;
    the_entitlement_survives_its_tenant(&mut world).await;
    what_is_no_longer_asked_for_goes(&world).await;
    exposure::a_load_balancer_gives_the_addresses(&world).await;
    exposure::routes_come_and_go(&world).await;
    a_grant_that_is_taken_away_takes_all(&world).await;
    a_deleted_instance_leaves_nothing(&world).await;
    gateways::gateways_without_a_control_plane_say_so(&world).await;
    bare::a_bare_gateway_gets_an_instance(&world).await;
    bare::a_refusal_is_told_where_the_gateway_is(&world).await;
    gateways::the_lease_is_let_go(&mut world).await;
    gateways::a_foreign_class_is_left_alone(&world).await;
    world.stop_operator().await;
}

async fn gateway_class(world: &World) {
    let api = world.cluster_api("GatewayClass");
    let class = eventually("GatewayClass postern is accepted", || async {
        let found = api.get_opt("postern").await.expect("an answer")?;
        let accepted = condition(&found, "Accepted").is_some_and(|c| c["status"] == "True");
        accepted.then_some(found)
    })
    .await;
    assert_eq!(
        class.data["spec"]["controllerName"],
        "postern.dev/gateway-controller"
    );
    let version = condition(&class, "SupportedVersion").expect("a version");
    assert_eq!(
        (&version["status"], &version["observedGeneration"]),
        (&json!("True"), &json!(1))
    );
}

const INSTANCE: &str = "
apiVersion: postern.dev/v1alpha1
kind: GatewayInstance
metadata: {name: default, namespace: team-a}
spec:
  listeners:
  - {name: http, port: 80, protocol: HTTP, hostname: '*.team-a.example'}
  - name: https
    port: 443
    protocol: HTTPS
    tls: {certificateRefs: [{name: cert}]}
  proxy: {replicas: 2}
";

/// Waits for an event on the instance of `team-a`.
async fn event(world: &World, kind: &str, reason: &str, note: &str) {
    let api = world.api("team-a", "Event");
    let what = format!("an event: {reason}");
    eventually(&what, || async {
        let events = api.list(&Default::default()).await.expect("a list").items;
        let mut data = events.into_iter().map(|event| event.data);
        data.find(|event| {
            event["regarding"]["name"] == "default"
                && event["regarding"]["kind"] == "GatewayInstance"
                && event["type"] == kind
                && event["reason"] == reason
                && event["note"].as_str().unwrap_or_default() == note
        })
    })
    .await;
}

async fn a_grant_makes_a_tenant(world: &World) {
    world.namespace("team-a").await;
    world.apply(INSTANCE);
    let message = world
        .reason(("team-a", "default"), "Accepted", "NotGranted")
        .await;
    assert!(
        world.stamped("team-a").await.is_empty(),
        "nothing without a grant"
    );
    event(world, "Warning", "NotGranted", &message).await;
    let (_, yaml) = message
        .split_once(":\n")
        .expect("YAML after the first line");
    world.apply(yaml);
    world
        .reason(("team-a", "default"), "Accepted", "Accepted")
        .await;
    event(world, "Normal", "Accepted", "").await;

    let entitlement = ("team-a", "Entitlement", "postern-default-entitlement");
    let contract = world
        .becomes(
            entitlement,
            "the contract has the Gateway's address",
            |found| {
                !found.data["status"]["gateways"][0]["addresses"]
                    .as_array()
                    .is_none_or(Vec::is_empty)
            },
        )
        .await;
    let gateway = &contract.data["status"]["gateways"][0];
    assert_eq!(gateway["name"], "default", "the Gateway of spec.listeners");
    assert_eq!(contract.data["status"]["objects"][0]["name"], "cert");
    let ports: Vec<&Value> = gateway["ports"].as_array().expect("ports").iter().collect();
    assert_eq!(ports.len(), 2);

    let service = world
        .there("team-a", "Service", "postern-default-gateway")
        .await;
    for (port, allocated) in service.data["spec"]["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .zip(ports)
    {
        assert_eq!(
            (&port["port"], &port["targetPort"]),
            (&allocated["port"], &allocated["containerPort"])
        );
    }
    let secrets = world
        .there("team-a", "Role", "postern-default-secrets")
        .await;
    assert_eq!(secrets.data["rules"][0]["resourceNames"], json!(["cert"]));
    world
        .there("team-a", "PodDisruptionBudget", "postern-default-envoy")
        .await;
    let envoy = world
        .there("team-a", "Deployment", "postern-default-envoy")
        .await;
    assert_eq!(
        envoy.data["spec"]["template"]["spec"]["automountServiceAccountToken"],
        false
    );
    // No pod runs here: the instance says so, and says where it can be reached.
    let message = world
        .reason(("team-a", "default"), "Ready", "Progressing")
        .await;
    assert!(message.contains("pods are available"), "{message}");
    let instance = world.there("team-a", "GatewayInstance", "default").await;
    let granted = &instance.data["status"]["granted"];
    assert_eq!(granted["hostnames"], json!(["*.team-a.example"]));
    let used = &instance.data["status"]["used"];
    assert_eq!(used, &json!({"routes": 0, "listeners": 2}));
    let address = &instance.data["status"]["addresses"][0];
    assert_eq!(address["value"], gateway["addresses"][0]["value"]);
}

async fn the_entitlement_survives_its_tenant(world: &mut World) {
    let name = "postern-default-entitlement";
    let key = ("team-a", "Entitlement", name);
    let before = world.there(key.0, key.1, key.2).await;
    let whole = |found: &DynamicObject| {
        found.metadata.owner_references == before.metadata.owner_references
            && found.metadata.labels == before.metadata.labels
            && found.metadata.annotations == before.metadata.annotations
            && found.metadata.finalizers.is_none()
            && found.data["status"] == before.data["status"]
    };
    let strip = json!([
        {"op": "remove", "path": "/metadata/ownerReferences"},
        {"op": "remove", "path": "/metadata/labels"},
        {"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}},
    ]);
    drift::patch(world, key, &strip).await;
    world.becomes(key, "put back whole", whole).await;

    let api = world.api("team-a", "Entitlement");
    api.delete(name, &DeleteParams::default())
        .await
        .expect("deleted");
    let fresh = world.becomes(key, "made again", whole).await;
    assert_ne!(fresh.metadata.uid, before.metadata.uid);

    let hold = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["x.example/hold"]}]);
    world.kill_operator().await;
    drift::patch(world, key, &hold).await;
    api.delete(name, &DeleteParams::default())
        .await
        .expect("deleted, but held");
    world.start_operator().await;
    let again = world
        .becomes(key, "freed and made again", |found| {
            whole(found) && found.metadata.deletion_timestamp.is_none()
        })
        .await;
    assert_ne!(again.metadata.uid, fresh.metadata.uid);

    // Deleted while nobody looks.
    world.kill_operator().await;
    api.delete(name, &DeleteParams::default())
        .await
        .expect("deleted");
    world.gone(key.0, key.1, key.2).await;
    world.start_operator().await;
    world
        .becomes(key, "made again with the same ports", whole)
        .await;
}

async fn what_is_no_longer_asked_for_goes(world: &World) {
    world.apply(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, \
         metadata: {name: own, namespace: team-a}, \
         spec: {gatewayClassName: postern, listeners: [{name: http, port: 80, protocol: HTTP}]}}",
    );
    world
        .there("team-a", "Service", "postern-own-gateway")
        .await;
    // What is used of quotas stands in the status.
    world.apply(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: counted, namespace: team-a}
spec: {parentRefs: [{name: own}, {name: default}]}
---
apiVersion: postern.dev/v1alpha1
kind: TenantGrant
metadata: {name: bounds}
spec: {namespaces: {names: [team-a]}, hostnames: [], exposures: [], quotas: {routes: 7}}
",
    );
    let told = json!([{"routes": 7}, {"routes": 1, "listeners": 3}]);
    let instance = ("team-a", "GatewayInstance", "default");
    let used = |found: &DynamicObject| {
        let status = &found.data["status"];
        json!([status["granted"]["quotas"], status["used"]]) == told
    };
    world
        .becomes(instance, "quotas and their use are told", used)
        .await;
    let routes = world.api("team-a", "HTTPRoute");
    let gone = routes.delete("counted", &DeleteParams::default()).await;
    gone.expect("deleted");
    let grants = world.cluster_api("TenantGrant");
    let gone = grants.delete("bounds", &DeleteParams::default()).await;
    gone.expect("deleted");
    let before = world
        .there("team-a", "Service", "postern-default-gateway")
        .await;
    let api = world.api("team-a", "Gateway");
    api.delete("own", &DeleteParams::default())
        .await
        .expect("deleted");
    world.gone("team-a", "Service", "postern-own-gateway").await;
    let after = world
        .there("team-a", "Service", "postern-default-gateway")
        .await;
    assert_eq!(before, after, "the other Gateway's Service is as it was");
    // Exposure that is not granted is refused by field; with a grant the node port is told.
    let instance = ("team-a", "GatewayInstance", "default");
    let api = world.api("team-a", "GatewayInstance");
    let patch_exposure = |kind: &str| {
        let patch = json!({"spec": {"exposure": {"type": kind}}});
        let api = api.clone();
        async move {
            let merge = Patch::Merge(&patch);
            api.patch("default", &PatchParams::default(), &merge)
                .await
                .expect("patched");
        }
    };
    world.apply(
        "{apiVersion: postern.dev/v1alpha1, kind: TenantGrant, metadata: {name: more}, \
         spec: {namespaces: {names: [team-a]}, hostnames: [], exposures: [NodePort, Route]}}",
    );
    patch_exposure("NodePort").await;
    let found = world
        .becomes(instance, "node ports are told", |found| {
            found.data["status"]["addresses"][0]["value"] == "192.0.2.1"
        })
        .await;
    let service = world
        .there("team-a", "Service", "postern-default-gateway")
        .await;
    assert_eq!(
        found.data["status"]["addresses"][0]["port"],
        service.data["spec"]["ports"][0]["nodePort"]
    );
    // Asking for what is not granted takes nothing away, nor does what is not served.
    patch_exposure("LoadBalancer").await;
    let message = world
        .reason(("team-a", "default"), "Accepted", "ExposureNotGranted")
        .await;
    assert!(message.contains("exposures: [LoadBalancer]"), "{message}");
    patch_exposure("Route").await;
    let message = world
        .reason(("team-a", "default"), "Accepted", "NotServed")
        .await;
    assert!(message.starts_with("spec.exposure.type: "), "{message}");
    let after = world
        .there("team-a", "Service", "postern-default-gateway")
        .await;
    assert_eq!(after.data["spec"], service.data["spec"]);
    // But when the admin takes back the exposure in use, it goes.
    patch_exposure("NodePort").await;
    world
        .reason(("team-a", "default"), "Accepted", "Accepted")
        .await;
    let grants = world.cluster_api("TenantGrant");
    grants
        .delete("more", &DeleteParams::default())
        .await
        .expect("deleted");
    world
        .gone("team-a", "Service", "postern-default-gateway")
        .await;
    world
        .reason(("team-a", "default"), "Accepted", "ExposureNotGranted")
        .await;
    patch_exposure("ClusterIP").await;
    world
        .reason(("team-a", "default"), "Accepted", "Accepted")
        .await;
    world
        .becomes(
            ("team-a", "Service", "postern-default-gateway"),
            "no node port",
            |found| found.data["spec"]["type"] == "ClusterIP",
        )
        .await;
}

async fn a_grant_that_is_taken_away_takes_all(world: &World) {
    let grants = world.cluster_api("TenantGrant");
    grants
        .delete("team-a", &DeleteParams::default())
        .await
        .expect("deleted");
    world
        .reason(("team-a", "default"), "Accepted", "NotGranted")
        .await;
    eventually("all that was stamped is gone", || async {
        world.stamped("team-a").await.is_empty().then_some(())
    })
    .await;
}

async fn a_deleted_instance_leaves_nothing(world: &World) {
    world.apply(
        "{apiVersion: postern.dev/v1alpha1, kind: TenantGrant, metadata: {name: both}, \
         spec: {namespaces: {names: [team-a]}, hostnames: ['*'], exposures: [ClusterIP]}}",
    );
    for name in ["default", "second"] {
        world.reason(("team-a", name), "Accepted", "Accepted").await;
        world
            .there(
                "team-a",
                "Deployment",
                &format!("postern-{name}-controlplane"),
            )
            .await;
    }
    let instances = world.api("team-a", "GatewayInstance");
    instances
        .delete("default", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("nothing of it is left", || async {
        let left = world.stamped("team-a").await;
        let others = left
            .iter()
            .any(|(name, _)| name.contains("postern-second-"));
        let own = left.iter().any(|(name, _)| name.contains("default"));
        assert!(others, "its neighbour's stays: {left:?}");
        (!own).then_some(())
    })
    .await;
}
