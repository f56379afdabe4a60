//! What is stamped for OpenShift's router.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use postern_api::entitlement::{EntitledGateway, Exposed, PortAllocation, RouteClaim};
use postern_api::instance::{ClientsFrom, ExposureType, RouteExposure, RouteTermination};
use postern_api::{GatewayInstanceSpec, names};

use super::{all, entitlement, gateway, ingress_of, one, stamped, stamped_with};

/// The ports for the router believe forwarded headers: routers may reach them, and no other pod.
#[test]
fn the_routers_ports_are_opened_to_routers_alone() {
    let mut web = gateway("web", &[(80, 20_080)]);
    for (port, exposure) in [
        (20_081, Exposed::Router),
        (20_082, Exposed::RouterPassthrough),
        (20_083, Exposed::RouterReencrypt),
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
        assert_eq!(about(20_081), about(20_083));
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
            ["\"edge-80\"", "\"pass-80\"", "\"tls-80\""]
        );
    }
}

/// A Gateway behind a router that speaks TLS to it.
fn reencrypting() -> (GatewayInstanceSpec, EntitledGateway) {
    let mut spec = GatewayInstanceSpec::default();
    spec.exposure.kind = ExposureType::Route;
    spec.exposure.route = Some(RouteExposure {
        termination: RouteTermination::Reencrypt,
        ..RouteExposure::default()
    });
    let mut web = gateway("web", &[(80, 20_080)]);
    web.ports.push(PortAllocation {
        port: 80,
        exposure: Exposed::RouterReencrypt,
        container_port: 20_083,
        ..PortAllocation::default()
    });
    web.routes.push(RouteClaim {
        host: "www.team-a.example".into(),
        port: 80,
        exposure: Exposed::RouterReencrypt,
    });
    (spec, web)
}

#[test]
fn a_route_reencrypts_only_with_the_instances_own_authorities() {
    let (spec, web) = reencrypting();
    let contract = entitlement(vec![web]);
    let routes = |trust: Option<&str>| {
        let objects = stamped_with(&spec, &contract, trust);
        let routes = objects.into_iter().filter(|one| one.key.kind == "Route");
        routes.map(|one| one.object).collect::<Vec<_>>()
    };
    assert_eq!(routes(None), [] as [serde_json::Value; 0]);
    let [route] = &routes(Some("the authorities"))[..] else {
        panic!("one Route");
    };
    assert_eq!(route["spec"]["tls"]["termination"], "reencrypt");
    assert_eq!(
        route["spec"]["tls"]["destinationCACertificate"],
        "the authorities"
    );
    assert_eq!(route["spec"]["port"]["targetPort"], "tls-80");
}

#[test]
fn the_operator_reads_the_published_authorities_and_nothing_beside_them() {
    let (spec, web) = reencrypting();
    let name = "postern-web-trust";
    let objects = stamped(&spec, &entitlement(vec![web]));
    let role: Role = one(&objects, name);
    let rules = serde_json::to_value(role.rules).unwrap();
    assert_eq!(
        rules,
        serde_json::json!([{
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"],
        }])
    );
    let binding: RoleBinding = one(&objects, name);
    let subjects = serde_json::to_value(binding.subjects).unwrap();
    assert_eq!(
        subjects,
        serde_json::json!([{
            "kind": "ServiceAccount", "name": "postern-operator", "namespace": "postern-system",
        }])
    );
    // Where no router needs them the operator has no such right.
    let plain = entitlement(vec![gateway("web", &[(80, 20_080)])]);
    let objects = stamped(&GatewayInstanceSpec::default(), &plain);
    let roles: Vec<(String, Role)> = all(&objects);
    assert!(roles.iter().all(|(role, _)| role != name));
}
