//! Exposures. Nothing here balances load or routes: what a load balancer or a router would write is
//! written by the test.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::World;

const SERVICE: (&str, &str, &str) = ("team-a", "Service", "postern-default-gateway");

async fn expose(world: &World, exposure: Value) {
    let patch = Patch::Merge(json!({"spec": {"exposure": exposure}}));
    world
        .api("team-a", "GatewayInstance")
        .patch("default", &PatchParams::default(), &patch)
        .await
        .expect("patched");
}

/// From ClusterIP to LoadBalancer and back.
pub async fn a_load_balancer_gives_the_addresses(world: &World) {
    let expose = async |exposure: Value| expose(world, exposure).await;
    world.apply(
        "{apiVersion: postern.dev/v1alpha1, kind: TenantGrant, metadata: {name: balancer}, \
         spec: {namespaces: {names: [team-a]}, hostnames: [], exposures: [LoadBalancer], addressPools: [edge]}}",
    );
    // A pool of somebody else's is refused by field, and what serves goes on.
    let before = world.there(SERVICE.0, SERVICE.1, SERVICE.2).await;
    expose(json!({"type": "LoadBalancer", "loadBalancer": {"addressPool": "others"}})).await;
    let message = world
        .reason(("team-a", "default"), "Accepted", "AddressPoolNotGranted")
        .await;
    assert!(
        message.starts_with("spec.exposure.loadBalancer.addressPool: "),
        "{message}"
    );
    let after = world.there(SERVICE.0, SERVICE.1, SERVICE.2).await;
    assert_eq!(before, after);

    let balanced = json!({"addressPool": null, "externalTrafficPolicy": "Local",
        "sourceRanges": ["198.51.100.0/24"]});
    expose(json!({"type": "LoadBalancer", "loadBalancer": balanced})).await;
    let service = world
        .becomes(SERVICE, "a load balancer is asked for", |found| {
            found.data["spec"]["type"] == "LoadBalancer"
        })
        .await;
    assert_eq!(
        service.metadata.annotations.unwrap_or_default()["metallb.io/address-pool"],
        "edge"
    );
    let ports = service.data["spec"]["ports"].as_array().expect("ports");
    assert!(
        ports.iter().all(|port| port.get("nodePort").is_none()),
        "node ports are not granted: {ports:?}"
    );
    assert_eq!(service.data["spec"]["externalTrafficPolicy"], "Local");
    let entitlement = ("team-a", "Entitlement", "postern-default-entitlement");
    world
        .becomes(entitlement, "an address is waited for", |found| {
            let gateway = &found.data["status"]["gateways"][0];
            gateway["awaitsAddress"] == true && gateway["addresses"] == json!([])
        })
        .await;

    let given = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.77"}]}}});
    world
        .api("team-a", "Service")
        .patch_status(SERVICE.2, &PatchParams::default(), &Patch::Merge(given))
        .await
        .expect("patched");
    world
        .becomes(entitlement, "the address is the Gateway's", |found| {
            let gateway = &found.data["status"]["gateways"][0];
            gateway["awaitsAddress"] == false && gateway["addresses"][0]["value"] == "192.0.2.77"
        })
        .await;
    let instance = ("team-a", "GatewayInstance", "default");
    world
        .becomes(instance, "the address is told", |found| {
            found.data["status"]["addresses"][0]["value"] == "192.0.2.77"
        })
        .await;

    expose(json!({"type": "ClusterIP", "loadBalancer": null})).await;
    let service = world
        .becomes(SERVICE, "it is within the cluster only", |found| {
            found.data["spec"]["type"] == "ClusterIP"
        })
        .await;
    assert!(
        service.data["spec"]
            .get("loadBalancerSourceRanges")
            .is_none()
    );
    world
        .cluster_api("TenantGrant")
        .delete("balancer", &DeleteParams::default())
        .await
        .expect("deleted");
    world
        .reason(("team-a", "default"), "Accepted", "Accepted")
        .await;
}

/// As much of the kind as its API server needs to keep it; its own schema is tried with a router.
const ROUTE_KIND: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: routes.route.openshift.io}
spec:
  group: route.openshift.io
  scope: Namespaced
  names: {kind: Route, listKind: RouteList, plural: routes, singular: route}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

/// A router's answer: admitted as this host, or refused.
async fn answer(world: &World, route: &str, host: &str, refused: Option<&str>) {
    let condition = json!({
        "type": "Admitted",
        "status": if refused.is_none() { "True" } else { "False" },
        "reason": refused, "message": refused.map(|_| "somebody was first"),
    });
    let status = json!({"status": {"ingress": [{
        "host": host, "routerName": "default", "conditions": [condition],
    }]}});
    world
        .api("team-a", "Route")
        .patch_status(route, &PatchParams::default(), &Patch::Merge(status))
        .await
        .expect("patched");
}

/// From ClusterIP to Routes and back, on a cluster that learns of Routes meanwhile.
pub async fn routes_come_and_go(world: &World) {
    let granted = "{apiVersion: postern.dev/v1alpha1, kind: TenantGrant, metadata: {name: router}, \
         spec: {namespaces: {names: [team-a]}, hostnames: ['*.team-a.example'], \
         exposures: [Route, LoadBalancer]}}";
    world.apply(granted);
    let before = world.there(SERVICE.0, SERVICE.1, SERVICE.2).await;
    let host = "www.team-a.example";
    let edge = json!({"type": "Route", "route": {"termination": "Edge", "hosts": [host]}});
    expose(world, edge).await;
    let message = world
        .reason(("team-a", "default"), "Accepted", "NotServed")
        .await;
    assert!(message.starts_with("spec.exposure.type: "), "{message}");
    let after = world.there(SERVICE.0, SERVICE.1, SERVICE.2).await;
    assert_eq!(before, after, "what serves goes on");

    // No restart, no edit of the instance.
    world.apply(ROUTE_KIND);
    let name = postern_api::names::route("default", host);
    let service = postern_api::names::router_service("default");
    let found = world.there("team-a", "Route", &name).await;
    assert_eq!(found.data["spec"]["to"]["name"], *service);
    let behind = world.there("team-a", "Service", &service).await;
    assert_eq!(
        behind.data["spec"]["ports"][0]["name"],
        found.data["spec"]["port"]["targetPort"]
    );
    let instance = ("team-a", "default");
    let entitlement = ("team-a", "Entitlement", "postern-default-entitlement");
    let exposed = async |what: &str, reason: &str| {
        let found = world
            .becomes(entitlement, what, |found| {
                found.data["status"]["gateways"][0]["exposed"]["reason"] == reason
            })
            .await;
        found.data["status"]["gateways"][0].clone()
    };
    exposed("a router is waited for", "Pending").await;
    answer(world, &name, host, Some("HostAlreadyClaimed")).await;
    let gateway = exposed("the router's reason is told", "RouteNotAdmitted").await;
    let message = gateway["exposed"]["message"].as_str().unwrap_or_default();
    assert!(
        message.ends_with("the router default refused it: HostAlreadyClaimed: somebody was first"),
        "{message}"
    );
    answer(world, &name, "www.bank.example", None).await;
    exposed("another's host is not believed", "Pending").await;
    answer(world, &name, host, None).await;
    let gateway = exposed("it is admitted", "Exposed").await;
    assert_eq!(
        gateway["addresses"],
        json!([{"type": "Hostname", "value": host}])
    );

    // What somebody makes of the Route is put back.
    let hijacked = json!({"metadata": {"annotations": {
        "haproxy.router.openshift.io/set-forwarded-headers": "append"}}});
    let routes = world.api("team-a", "Route");
    let as_somebody = PatchParams::default();
    routes
        .patch(&name, &as_somebody, &Patch::Merge(hijacked))
        .await
        .expect("patched");
    world
        .becomes(("team-a", "Route", &name), "it is put back", |found| {
            let annotations = found.metadata.annotations.as_ref().expect("annotations");
            annotations["haproxy.router.openshift.io/set-forwarded-headers"] == "replace"
        })
        .await;

    reencrypts(world, &name, host).await;

    // The Route serves until the load balancer has an address, and a while longer.
    expose(world, json!({"type": "LoadBalancer", "route": null})).await;
    world
        .becomes(SERVICE, "a load balancer is asked for", |found| {
            found.data["spec"]["type"] == "LoadBalancer"
        })
        .await;
    let kept = world.there("team-a", "Route", &name).await;
    assert_eq!(kept.metadata.uid, found.metadata.uid);
    let given = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.78"}]}}});
    world
        .api("team-a", "Service")
        .patch_status(SERVICE.2, &PatchParams::default(), &Patch::Merge(given))
        .await
        .expect("patched");
    let both = world
        .becomes(entitlement, "both have addresses", |found| {
            let addresses = found.data["status"]["gateways"][0]["addresses"].as_array();
            addresses.is_some_and(|addresses| addresses.len() == 2)
        })
        .await;
    assert_eq!(
        both.data["status"]["gateways"][0]["addresses"][0]["value"],
        "192.0.2.78"
    );
    world.gone("team-a", "Route", &name).await;
    world.gone("team-a", "Service", &service).await;

    // Back, and then the kind goes: what served by it is said not to be there any more.
    expose(
        world,
        json!({"type": "Route", "route": {"termination": "Edge", "hosts": [host]}}),
    )
    .await;
    world.there("team-a", "Route", &name).await;
    world.kubectl(&["delete", "crd", "routes.route.openshift.io"]);
    world.reason(instance, "Accepted", "NotServed").await;
    expose(world, json!({"type": "ClusterIP", "route": null})).await;
    world.reason(instance, "Accepted", "Accepted").await;
    world
        .becomes(SERVICE, "it is within the cluster only", |found| {
            found.data["spec"]["type"] == "ClusterIP"
        })
        .await;
    world
        .cluster_api("TenantGrant")
        .delete("router", &DeleteParams::default())
        .await
        .expect("deleted");
    world.reason(instance, "Accepted", "Accepted").await;
}

/// From edge to reencrypt and back: the router is told the authorities that were published, and
/// nothing else that stands there.
async fn reencrypts(world: &World, name: &str, host: &str) {
    let route = ("team-a", "Route", name);
    let asked = |termination: &str| json!({"type": "Route", "route": {"termination": termination, "hosts": [host]}});
    let published = async |text: &str| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "postern-default-trust", "namespace": "team-a"},
            "data": {"ca.crt": text}});
        world.apply(&map.to_string());
    };
    // What tenants may write there gets into no Route: the one that is there stays.
    published("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n").await;
    let before = world.there("team-a", "Route", name).await;
    expose(world, asked("Reencrypt")).await;
    let entitlement = ("team-a", "Entitlement", "postern-default-entitlement");
    world
        .becomes(entitlement, "a port of its own is given", |found| {
            let ports = found.data["status"]["gateways"][0]["ports"].as_array();
            let mut ports = ports.into_iter().flatten();
            ports.any(|port| port["exposure"] == "RouterReencrypt")
        })
        .await;
    world.there("team-a", "Role", "postern-default-trust").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let kept = world.there("team-a", "Route", name).await;
    assert_eq!(kept.data["spec"], before.data["spec"]);

    let certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    published(certificate).await;
    let found = world
        .becomes(route, "it reencrypts", |found| {
            found.data["spec"]["tls"]["termination"] == "reencrypt"
        })
        .await;
    assert_eq!(found.metadata.uid, before.metadata.uid);
    assert_eq!(
        found.data["spec"]["tls"]["destinationCACertificate"],
        certificate
    );
    // Taken away, it is remembered.
    world
        .api("team-a", "ConfigMap")
        .delete("postern-default-trust", &DeleteParams::default())
        .await
        .expect("deleted");
    answer(world, name, host, None).await;
    expose(world, asked("Edge")).await;
    world
        .becomes(route, "it is as before", |found| {
            found.data["spec"]["tls"]["termination"] == "edge"
                && found.data["spec"]["tls"]["destinationCACertificate"] == Value::Null
        })
        .await;
    world.gone("team-a", "Role", "postern-default-trust").await;
}
