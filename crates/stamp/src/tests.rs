mod goldens;
mod router;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use postern_api::entitlement::{
    EntitledGateway, EntitlementStatus, ObjectRef, PortAllocation, ShardRef,
};
use postern_api::instance::{Clients, ClientsFrom, Exposure, ExposureType, Granted, Placement};
use postern_api::{DEFAULT_SHARD, GatewayInstanceSpec};
use serde::de::DeserializeOwned;

use crate::restricted::violations;
use crate::{
    ApiServers, Images, Instance, Observed, Settings, Stamped, labels, operator, rights, stamp,
};

fn settings() -> Settings {
    Settings {
        images: Images {
            control_plane: "postern.test/controlplane:dev".into(),
            proxy: "postern.test/proxy:dev".into(),
        },
        api_servers: ApiServers::Endpoints(["10.0.0.1:6443".parse().unwrap()].into()),
        monitoring_namespaces: BTreeSet::new(),
        listen: "0.0.0.0".parse().unwrap(),
        certificate_seconds: None,
        operator_namespace: "postern-system".into(),
    }
}

fn gateway(name: &str, ports: &[(u16, u16)]) -> EntitledGateway {
    EntitledGateway {
        namespace: "team-a".into(),
        name: name.into(),
        uid: format!("uid-of-{name}"),
        shard: DEFAULT_SHARD.into(),
        ports: ports
            .iter()
            .map(|(port, container_port)| PortAllocation {
                port: *port,
                container_port: *container_port,
                ..PortAllocation::default()
            })
            .collect(),
        ..EntitledGateway::default()
    }
}

fn secret(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        group: String::new(),
        kind: "Secret".into(),
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn entitlement(gateways: Vec<EntitledGateway>) -> EntitlementStatus {
    EntitlementStatus {
        gateways,
        shards: vec![ShardRef {
            name: DEFAULT_SHARD.into(),
        }],
        ..EntitlementStatus::default()
    }
}

fn stamped(spec: &GatewayInstanceSpec, entitlement: &EntitlementStatus) -> Vec<Stamped> {
    stamped_with(spec, entitlement, None)
}

/// With the authorities that the control plane published.
fn stamped_with(
    spec: &GatewayInstanceSpec,
    entitlement: &EntitlementStatus,
    trust: Option<&str>,
) -> Vec<Stamped> {
    let instance = Instance {
        namespace: "team-a",
        name: "web",
        uid: "uid-of-web",
        spec,
        granted: &Granted::default(),
    };
    let observed = Observed {
        control_plane: Some("10.96.0.10".parse().unwrap()),
        trust: trust.map(str::to_owned),
    };
    stamp(&instance, entitlement, &settings(), &observed).unwrap()
}

/// A spec and an entitlement with something of everything.
fn full() -> (GatewayInstanceSpec, EntitlementStatus) {
    let mut spec = GatewayInstanceSpec::default();
    spec.proxy.replicas = Some(3);
    spec.control_plane.replicas = Some(2);
    let mut entitlement = entitlement(vec![
        gateway("web", &[(80, 20_080), (443, 20_443)]),
        gateway("b", &[(80, 21_080)]),
    ]);
    entitlement.objects = vec![secret("team-a", "cert")];
    entitlement.shards.push(ShardRef {
        name: "blue".into(),
    });
    (spec, entitlement)
}

fn all<T: DeserializeOwned + k8s_openapi::Resource>(objects: &[Stamped]) -> Vec<(String, T)> {
    objects
        .iter()
        .filter(|stamped| stamped.key.kind == T::KIND)
        .map(|stamped| {
            (
                stamped.key.name.clone(),
                serde_json::from_value(stamped.object.clone()).unwrap(),
            )
        })
        .collect()
}

fn one<T: DeserializeOwned + k8s_openapi::Resource>(objects: &[Stamped], name: &str) -> T {
    let mut found: BTreeMap<String, T> = all(objects).into_iter().collect();
    found
        .remove(name)
        .unwrap_or_else(|| panic!("no {} {name}", T::KIND))
}

#[test]
fn every_pod_is_restricted_and_stays_so_whatever_is_asked_for() {
    let (spec, entitlement) = full();
    let deployments = all::<Deployment>(&stamped(&spec, &entitlement));
    assert_eq!(deployments.len(), 3);
    for (name, deployment) in deployments {
        let template = deployment.spec.unwrap().template;
        assert_eq!(violations(&template), Vec::<String>::new(), "{name}");
        let annotations = template.metadata.unwrap().annotations.unwrap();
        assert_eq!(annotations["openshift.io/required-scc"], "restricted-v2");
    }
}

#[test]
fn the_operators_pod_is_restricted_too() {
    let deployment = operator::deployment(None, "image", &settings().images);
    assert_eq!(
        violations(&deployment.spec.unwrap().template),
        Vec::<String>::new()
    );
}

#[test]
fn envoys_hold_no_token() {
    let (spec, entitlement) = full();
    let objects = stamped(&spec, &entitlement);
    for (name, account) in all::<ServiceAccount>(&objects) {
        assert_eq!(
            account.automount_service_account_token,
            Some(false),
            "{name}"
        );
    }
    for (name, deployment) in all::<Deployment>(&objects) {
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let is_control_plane = name == "postern-web-controlplane";
        assert_eq!(
            pod.automount_service_account_token,
            Some(is_control_plane),
            "{name}"
        );
        assert!(
            pod.volumes
                .iter()
                .flatten()
                .all(|volume| volume.projected.is_none())
        );
    }
}

#[test]
fn envoys_have_no_rights() {
    let (spec, entitlement) = full();
    for (name, binding) in all::<RoleBinding>(&stamped(&spec, &entitlement)) {
        let subjects = binding.subjects.unwrap();
        assert_eq!(subjects.len(), 1, "{name}");
        assert_eq!(subjects[0].name, "postern-web-controlplane");
        assert_eq!(subjects[0].namespace.as_deref(), Some("team-a"));
    }
}

/// In RBAC a rule without names is a rule for every name.
#[test]
fn secrets_are_read_by_name_or_not_at_all() {
    let spec = GatewayInstanceSpec::default();
    let secret_rules = |objects: Vec<ObjectRef>| {
        let entitlement = EntitlementStatus {
            objects,
            ..entitlement(vec![])
        };
        one::<Role>(&stamped(&spec, &entitlement), "postern-web-secrets")
            .rules
            .unwrap_or_default()
    };
    assert_eq!(secret_rules(vec![]), vec![]);
    assert_eq!(secret_rules(vec![secret("team-a", "")]), vec![]);
    assert_eq!(
        secret_rules(vec![secret("team-b", "cert")]),
        vec![],
        "another namespace's name"
    );
    let foreign_kind = ObjectRef {
        kind: "ConfigMap".into(),
        ..secret("team-a", "cert")
    };
    assert_eq!(secret_rules(vec![foreign_kind]), vec![]);
    let rules = secret_rules(vec![
        secret("team-a", "b"),
        secret("team-a", "a"),
        secret("team-a", "b"),
    ]);
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].resource_names, Some(vec!["a".into(), "b".into()]));
    assert_eq!(rules[0].verbs, ["get", "list", "watch"]);
}

#[test]
fn every_rule_names_what_it_is_for() {
    let (spec, entitlement) = full();
    let roles = all::<Role>(&stamped(&spec, &entitlement));
    assert_eq!(roles.len(), 2);
    for (name, role) in roles {
        for rule in role.rules.unwrap() {
            assert_eq!(wildcards(&rule), Vec::<String>::new(), "{name}");
            let resources = rule.resources.clone().unwrap();
            let is_status = resources
                .iter()
                .all(|resource| resource.ends_with("/status"));
            let names = rule.resource_names.clone().unwrap_or_default();
            assert!(is_status || !names.is_empty(), "{name}: {rule:?}");
            assert!(!is_status || rule.verbs == ["update"], "{name}: {rule:?}");
        }
    }
}

#[test]
fn the_control_plane_keeps_its_own_secrets_and_those_alone() {
    let (spec, entitlement) = full();
    let role: Role = one(&stamped(&spec, &entitlement), "postern-web-controlplane");
    let rules = role.rules.unwrap();
    let secrets: Vec<&PolicyRule> = rules
        .iter()
        .filter(|rule| rule.resources.as_ref().unwrap().contains(&"secrets".into()))
        .collect();
    assert_eq!(secrets.len(), 1);
    let names = secrets[0].resource_names.clone().unwrap();
    assert!(names.contains(&"postern-web-ca".into()) && names.contains(&"postern-web-tls".into()));
    assert!(names.contains(&"postern-web-xds".into()));
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn a_gateway_that_comes_or_goes_replaces_no_pod() {
    let spec = GatewayInstanceSpec::default();
    let before = stamped(&spec, &entitlement(vec![]));
    let mut more = entitlement(vec![gateway("web", &[(443, 20_443)])]);
    more.objects = vec![secret("team-a", "cert")];
    let after = stamped(&spec, &more);
    assert_eq!(all::<Deployment>(&before), all::<Deployment>(&after));
    assert_ne!(before, after);
}

#[test]
fn pods_are_no_gateways() {
    let (spec, entitlement) = full();
    let objects = stamped(&spec, &entitlement);
    for (name, deployment) in all::<Deployment>(&objects) {
        let labels = deployment
            .spec
            .unwrap()
            .template
            .metadata
            .unwrap()
            .labels
            .unwrap();
        assert!(!labels.contains_key(labels::GATEWAY_NAME), "{name}");
    }
    let service = objects
        .iter()
        .find(|stamped| stamped.key.name == "postern-web-gateway")
        .unwrap();
    assert_eq!(
        service.object["metadata"]["labels"][labels::GATEWAY_NAME],
        "web"
    );
}

#[test]
fn each_object_is_the_instances_own_and_stands_once() {
    let (mut spec, entitlement) = full();
    spec.listeners = vec![postern_api::instance::Listener::default()];
    let objects = stamped(&spec, &entitlement);
    let keys: BTreeSet<_> = objects.iter().map(|stamped| stamped.key.clone()).collect();
    assert_eq!(keys.len(), objects.len());
    for stamped in &objects {
        assert_eq!(stamped.key.namespace, "team-a");
        let metadata = &stamped.object["metadata"];
        let owners = metadata["ownerReferences"].as_array().unwrap();
        assert_eq!(owners.len(), 1, "{:?}", stamped.key);
        assert_eq!(owners[0]["uid"], "uid-of-web");
        assert_eq!(owners[0].get("blockOwnerDeletion"), None);
        assert_eq!(
            metadata["labels"][labels::INSTANCE],
            "web",
            "{:?}",
            stamped.key
        );
    }
}

fn ingress_of(policy: NetworkPolicy) -> serde_json::Value {
    serde_json::to_value(policy.spec.unwrap().ingress).unwrap()
}

#[test]
fn without_listeners_nobody_comes_in() {
    let spec = GatewayInstanceSpec::default();
    let policy: NetworkPolicy = one(&stamped(&spec, &entitlement(vec![])), "postern-web-envoy");
    let spec = policy.spec.unwrap();
    assert_eq!(spec.ingress, None);
    assert_eq!(
        spec.policy_types,
        Some(vec!["Ingress".into(), "Egress".into()])
    );
}

#[test]
fn clients_come_from_where_they_are_admitted() {
    let entitlement = entitlement(vec![gateway("web", &[(80, 20_080)])]);
    let admitted = |clients: Clients, kind: ExposureType| {
        let exposure = Exposure {
            kind,
            ..Exposure::default()
        };
        let spec = GatewayInstanceSpec {
            clients,
            exposure,
            ..GatewayInstanceSpec::default()
        };
        ingress_of(one(&stamped(&spec, &entitlement), "postern-web-envoy"))
    };
    let names = |values: &[&str]| {
        serde_json::json!([{
            "from": [{ "namespaceSelector": { "matchExpressions": [{
                "key": "kubernetes.io/metadata.name", "operator": "In", "values": values,
            }] } }],
            "ports": [{ "port": 20_080, "protocol": "TCP" }],
        }])
    };
    let own = Clients::default();
    assert_eq!(
        admitted(own.clone(), ExposureType::ClusterIP),
        names(&["team-a"])
    );
    let listed = Clients {
        from: ClientsFrom::Names,
        names: vec!["team-b".into(), "team-b".into()],
    };
    assert_eq!(
        admitted(listed, ExposureType::ClusterIP),
        names(&["team-a", "team-b"])
    );
    let everyone = admitted(
        Clients {
            from: ClientsFrom::All,
            names: vec![],
        },
        ExposureType::ClusterIP,
    );
    assert_eq!(
        everyone[0]["from"],
        serde_json::json!([{ "namespaceSelector": {} }])
    );
    // A node port's clients come from anywhere.
    assert_eq!(admitted(own, ExposureType::NodePort)[0].get("from"), None);
}

#[test]
fn metrics_are_for_monitoring_only() {
    let (spec, entitlement) = full();
    let instance = Instance {
        namespace: "team-a",
        name: "web",
        uid: "u",
        spec: &spec,
        granted: &Granted::default(),
    };
    let mut settings = settings();
    let metrics_ports = |settings: &Settings| {
        let objects = stamp(&instance, &entitlement, settings, &Observed::default()).unwrap();
        all::<NetworkPolicy>(&objects)
            .into_iter()
            .map(|(_, policy)| ingress_of(policy).to_string())
            .filter(|text| text.contains("15021") || text.contains("15031"))
            .collect::<Vec<_>>()
    };
    assert_eq!(metrics_ports(&settings), Vec::<String>::new());
    settings.monitoring_namespaces.insert("monitoring".into());
    let open = metrics_ports(&settings);
    assert_eq!(open.len(), 3);
    assert!(
        open.iter().all(|text| text.contains("\"monitoring\"")),
        "{open:?}"
    );
}

#[test]
fn the_life_of_certificates_is_said_to_control_planes_alone() {
    let (spec, entitlement) = full();
    let instance = Instance {
        namespace: "team-a",
        name: "web",
        uid: "u",
        spec: &spec,
        granted: &Granted::default(),
    };
    let told = |seconds| {
        let settings = Settings {
            certificate_seconds: seconds,
            ..settings()
        };
        let objects = stamp(&instance, &entitlement, &settings, &Observed::default()).unwrap();
        all::<Deployment>(&objects)
            .into_iter()
            .filter_map(|(name, deployment)| {
                let pod = deployment.spec?.template.spec?;
                let variables = pod.containers.into_iter().flat_map(|one| one.env);
                let mut variables = variables.flatten();
                let life = variables.find(|one| one.name == "POSTERN_CERTIFICATE_SECONDS")?;
                Some((name, life.value?))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(told(None), []);
    let control_plane = "postern-web-controlplane".to_owned();
    assert_eq!(told(Some(120)), [(control_plane, "120".to_owned())]);
}

#[test]
fn one_bad_amount_goes_where_the_api_server_says_so() {
    let mut spec = GatewayInstanceSpec::default();
    spec.proxy
        .limits
        .insert("memory".into(), Quantity("a lot".into()));
    let deployment: Deployment = one(&stamped(&spec, &entitlement(vec![])), "postern-web-envoy");
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let resources = pod.containers[0].resources.clone().unwrap();
    assert_eq!(resources.limits.unwrap()["memory"].0, "a lot");
}

#[test]
fn sizes_are_never_a_contradiction_of_our_own() {
    let sized = |requests: &[(&str, &str)], limits: &[(&str, &str)]| {
        let amounts = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), Quantity((*v).into())))
                .collect()
        };
        let mut spec = GatewayInstanceSpec::default();
        spec.proxy.requests = amounts(requests);
        spec.proxy.limits = amounts(limits);
        let deployment: Deployment =
            one(&stamped(&spec, &entitlement(vec![])), "postern-web-envoy");
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let resources = pod.containers[0].resources.clone().unwrap();
        let heap = pod.containers[0]
            .env
            .iter()
            .flatten()
            .find(|variable| variable.name == "POSTERN_MAX_HEAP")
            .and_then(|variable| variable.value.clone());
        let (requests, limits) = (resources.requests.unwrap(), resources.limits.unwrap());
        (
            requests["cpu"].0.clone(),
            requests["memory"].0.clone(),
            limits["memory"].0.clone(),
            heap,
        )
    };
    let mebibytes = |count: u64| Some(((count << 20) / 100 * 80).to_string());
    let expect = |cpu: &str, memory: &str, limit: &str, heap: Option<String>| {
        (cpu.to_owned(), memory.to_owned(), limit.to_owned(), heap)
    };
    assert_eq!(
        sized(&[], &[]),
        expect("100m", "128Mi", "512Mi", mebibytes(512))
    );
    assert_eq!(
        sized(&[("memory", "2Gi")], &[]),
        expect("100m", "2Gi", "2Gi", mebibytes(2048)),
        "a request is no more than the limit"
    );
    assert_eq!(
        sized(&[], &[("memory", "64Mi"), ("cpu", "0.05")]),
        expect("50m", "64Mi", "64Mi", mebibytes(64))
    );
    assert_eq!(
        sized(&[], &[("memory", "1M")]).3,
        None,
        "no heap that Envoy cannot start with"
    );
}

#[test]
fn what_is_not_built_is_refused_by_field() {
    let refused = |change: &dyn Fn(&mut GatewayInstanceSpec)| {
        let mut spec = GatewayInstanceSpec::default();
        change(&mut spec);
        let instance = Instance {
            namespace: "team-a",
            name: "web",
            uid: "u",
            spec: &spec,
            granted: &Granted::default(),
        };
        stamp(
            &instance,
            &entitlement(vec![]),
            &settings(),
            &Observed::default(),
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(
        refused(&|spec| spec.placement = Placement::Managed),
        "spec.placement: Managed is not built yet; use Own"
    );
}

#[test]
fn a_name_that_is_no_label_value_is_refused() {
    let spec = GatewayInstanceSpec::default();
    let name = "a".repeat(64);
    let instance = Instance {
        namespace: "team-a",
        name: &name,
        uid: "u",
        spec: &spec,
        granted: &Granted::default(),
    };
    let error = stamp(
        &instance,
        &entitlement(vec![]),
        &settings(),
        &Observed::default(),
    )
    .unwrap_err();
    assert_eq!(error.field.to_string(), "metadata.name");
}

fn wildcards(rule: &PolicyRule) -> Vec<String> {
    let lists = [
        &rule.api_groups,
        &rule.resources,
        &rule.resource_names,
        &rule.non_resource_urls,
    ];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .chain(&rule.verbs)
        .filter(|word| word.contains('*'))
        .cloned()
        .collect()
}

#[test]
fn the_operator_reads_no_secret_and_has_no_wildcard() {
    let rules = rights::operator_cluster_rules()
        .into_iter()
        .chain(rights::operator_own_rules());
    let roles = rights::static_cluster_roles()
        .into_iter()
        .flat_map(|(_, rules)| rules);
    for rule in rules.chain(roles) {
        assert_eq!(wildcards(&rule), Vec::<String>::new());
        assert_eq!(rule.non_resource_urls, None);
        assert!(!rule.verbs.is_empty());
        for forbidden in [
            "secrets",
            "pods/exec",
            "pods/attach",
            "pods/ephemeralcontainers",
            "serviceaccounts/token",
            "nodes/proxy",
        ] {
            assert!(
                !rule
                    .resources
                    .iter()
                    .flatten()
                    .any(|word| word == forbidden),
                "{rule:?}"
            );
        }
        assert!(
            !rule.verbs.iter().any(|verb| verb == "impersonate"),
            "{rule:?}"
        );
    }
}

/// What is stamped must be what the operator may write: a kind that is added there and not here
/// would fail in the cluster only.
#[test]
fn the_operator_may_write_what_is_stamped() {
    let (mut spec, entitlement) = full();
    spec.listeners = vec![postern_api::instance::Listener::default()];
    let rules = rights::operator_cluster_rules();
    for stamped in stamped(&spec, &entitlement) {
        let group = stamped
            .key
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let resource = match stamped.key.kind.to_lowercase() {
            kind if kind.ends_with("cy") => format!("{}ies", &kind[..kind.len() - 1]),
            kind => format!("{kind}s"),
        };
        for verb in [
            "create", "delete", "get", "list", "patch", "update", "watch",
        ] {
            let allowed = rules.iter().any(|rule| {
                rule.api_groups.iter().flatten().any(|word| word == group)
                    && rule
                        .resources
                        .iter()
                        .flatten()
                        .any(|word| *word == resource)
                    && rule.verbs.iter().any(|word| word == verb)
                    && rule.resource_names.is_none()
            });
            assert!(allowed, "{verb} {resource}.{group}");
        }
    }
}

#[test]
fn what_protects_is_applied_before_what_runs() {
    let (spec, entitlement) = full();
    let objects = stamped(&spec, &entitlement);
    let position = |kind: &str, name: &str| {
        objects
            .iter()
            .position(|stamped| stamped.key.kind == kind && stamped.key.name == name)
            .unwrap()
    };
    for name in ["postern-web-controlplane", "postern-web-envoy"] {
        assert!(position("NetworkPolicy", name) < position("Deployment", name));
        assert!(position("ServiceAccount", name) < position("Deployment", name));
    }
}
