//! Exposures. Nothing here balances load: what a load balancer would write is written by the test.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::World;

const SERVICE: (&str, &str, &str) = ("team-a", "Service", "postern-default-gateway");

/// From ClusterIP to LoadBalancer and back.
pub async fn a_load_balancer_gives_the_addresses(world: &World) {
    let instances = world.api("team-a", "GatewayInstance");
    let expose = async |exposure: Value| {
        let patch = Patch::Merge(json!({"spec": {"exposure": exposure}}));
        instances
            .patch("default", &PatchParams::default(), &patch)
            .await
            .expect("patched");
    };
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
