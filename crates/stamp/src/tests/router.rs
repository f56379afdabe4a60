//! What is stamped for OpenShift's router.

use postern_api::entitlement::{Exposed, PortAllocation};
use postern_api::instance::{ClientsFrom, ExposureType};
use postern_api::{GatewayInstanceSpec, names};

use super::{entitlement, gateway, ingress_of, one, stamped};

/// The ports for the router believe forwarded headers: routers may reach them, and no other pod.
#[test]
fn the_routers_ports_are_opened_to_routers_alone() {
    let mut web = gateway("web", &[(80, 20_080)]);
    for (port, exposure) in [
        (20_081, Exposed::Router),
        (20_082, Exposed::RouterPassthrough),
    ] {
        web.ports.push(PortAllocation {
            port: 80,
            exposure,
            container_port: port,
            ..PortAllocation::default()
        });
    }
    let mut everyone = GatewayInstanceSpec::default();
    everyone.clients.from = ClientsFrom::All;
    let mut on_nodes = GatewayInstanceSpec::default();
    on_nodes.exposure.kind = ExposureType::NodePort;
    for spec in [GatewayInstanceSpec::default(), everyone, on_nodes] {
        let objects = stamped(&spec, &entitlement(vec![web.clone()]));
        let rules = ingress_of(one(&objects, "postern-web-envoy"));
        let about = |port: u16| {
            let rules = rules.as_array().unwrap().iter();
            rules
                .filter(|rule| rule["ports"].to_string().contains(&port.to_string()))
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(about(20_080).len(), 1);
        assert_eq!(about(20_081), about(20_082));
        let [rule] = &about(20_081)[..] else {
            panic!("one rule: {rules}");
        };
        assert_eq!(
            rule["from"],
            serde_json::json!([{
                "namespaceSelector": {
                    "matchLabels": { "policy-group.network.openshift.io/ingress": "" },
                },
                "podSelector": {},
            }])
        );
        let ports_of = |name: &str| -> Vec<String> {
            let service = objects.iter().find(|stamped| stamped.key.name == name);
            let ports = service.unwrap().object["spec"]["ports"].as_array().unwrap();
            ports.iter().map(|port| port["name"].to_string()).collect()
        };
        assert_eq!(ports_of("postern-web-gateway").len(), 1);
        assert_eq!(
            ports_of(&names::router_service("web")),
            ["\"edge-80\"", "\"pass-80\""]
        );
    }
}
