//! The GatewayInstance that is made for Gateways that name none. It is made once and then its
//! tenant's: nothing of it is kept as it was stamped.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use postern_api::{GATEWAY_GROUP, GROUP, GatewayInstanceSpec};
use serde_json::json;

use crate::{Stamped, VERSION, labels};

/// The instance of this namespace and name, from the template of the TenantGrant `grant`. It goes
/// when the last of its `owners` has gone.
#[must_use]
pub fn instance(
    namespace: &str,
    name: &str,
    spec: &GatewayInstanceSpec,
    grant: &str,
    owners: Vec<OwnerReference>,
) -> Stamped {
    let meta = ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        annotations: Some(labels::map(&[(labels::MADE_FROM_GRANT, grant)])),
        owner_references: Some(owners),
        ..ObjectMeta::default()
    };
    Stamped::new(
        &format!("{GROUP}/{VERSION}"),
        "GatewayInstance",
        json!({ "metadata": meta, "spec": spec }),
    )
}

/// A Gateway as an owner of the instance. None of them controls it, and none waits for it to go.
#[must_use]
pub fn owner(gateway: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: format!("{GATEWAY_GROUP}/v1"),
        kind: "Gateway".into(),
        name: gateway.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    }
}

#[cfg(test)]
mod tests {
    use postern_api::grant::InstanceTemplate;
    use postern_api::instance::ExposureType;

    use super::*;

    #[test]
    fn what_is_made_says_from_what_and_goes_with_its_gateways() {
        let mut template = InstanceTemplate::default();
        template.exposure.kind = ExposureType::NodePort;
        template.proxy.replicas = Some(2);
        let owners = vec![owner("web", "u-1"), owner("api", "u-2")];
        let made = instance("team-a", "default", &template.instance(), "teams", owners);
        let owner = |name: &str, uid: &str| {
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "name": name, "uid": uid,
            })
        };
        let expected = json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "GatewayInstance",
            "metadata": {
                "name": "default", "namespace": "team-a",
                "annotations": {"postern.dev/made-from-grant": "teams"},
                // No `blockOwnerDeletion`, which would ask for a right on the Gateways' finalizers.
                "ownerReferences": [owner("web", "u-1"), owner("api", "u-2")],
            },
            "spec": {
                "exposure": {"type": "NodePort"},
                "clients": {"from": "Same"},
                "placement": "Own",
                "proxy": {"replicas": 2},
                "controlPlane": {},
            },
        });
        assert_eq!(made.object, expected);
    }
}
