use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::*;

fn release() -> Release {
    Release {
        operator: "images.example/operator:v1".into(),
        stamped: Images {
            control_plane: "images.example/controlplane:v1".into(),
            proxy: "images.example/proxy:v1".into(),
        },
        bundle: "images.example/bundle:v1".into(),
        catalog: "images.example/catalog:v1".into(),
    }
}

fn documents() -> Vec<(PathBuf, Value)> {
    let files = files(&release()).unwrap();
    assert!(files.len() > 15, "{}", files.len());
    // The catalog is several documents, all made of what stands in the others.
    let single = |path: &PathBuf| {
        !path.ends_with("catalog.yaml") && path.extension().is_some_and(|is| is == "yaml")
    };
    files
        .into_iter()
        .filter(|(path, _)| single(path))
        .flat_map(|(path, text)| {
            let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            all.into_iter().map(move |value| (path.clone(), value))
        })
        .collect()
}

/// Every list of rules anywhere in a document.
fn rules(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value {
                Value::Array(rules) if name == "rules" => rules.clone(),
                _ => rules(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(rules).collect(),
        _ => Vec::new(),
    }
}

fn words<'a>(rule: &'a Value, field: &str) -> Vec<&'a str> {
    let list = rule[field]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

#[test]
fn no_manifest_gives_what_must_not_be_given() {
    let mut seen = 0;
    for (path, document) in documents() {
        for rule in rules(&document) {
            seen += 1;
            let text = rule.to_string();
            let at = format!("{}: {text}", path.display());
            assert!(!text.contains('*'), "{at}");
            let resources = words(&rule, "resources");
            assert!(
                !resources.is_empty() && !words(&rule, "verbs").is_empty(),
                "{at}"
            );
            for forbidden in [
                "secrets",
                "serviceaccounts/token",
                "pods/exec",
                "pods/attach",
                "pods/ephemeralcontainers",
                "nodes/proxy",
            ] {
                assert!(!resources.contains(&forbidden), "{at}");
            }
            assert!(!words(&rule, "verbs").contains(&"impersonate"), "{at}");
            // The platform's definitions are never written.
            if resources.contains(&"customresourcedefinitions") {
                assert_eq!(words(&rule, "verbs"), ["get", "list", "watch"], "{at}");
            }
            // For RBAC, an empty list of names is every name.
            if let Some(names) = rule.get("resourceNames") {
                assert!(!names.as_array().unwrap().is_empty(), "{at}");
            }
        }
    }
    assert!(seen > 30, "{seen} rules");
}

/// What tenants may do by a set, as `verb resource.group`, by the stock role.
fn tenants_may(set: &str) -> BTreeMap<String, BTreeSet<String>> {
    let path = PathBuf::from(format!("config/tenants/{set}.yaml"));
    let mut may: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, role) in documents().into_iter().filter(|(found, _)| *found == path) {
        assert_eq!(role["kind"], "ClusterRole");
        let labels = role["metadata"]["labels"].as_object().unwrap();
        let prefix = "rbac.authorization.k8s.io/aggregate-to-";
        for stock in labels.keys().filter_map(|label| label.strip_prefix(prefix)) {
            for rule in rules(&role) {
                for resource in words(&rule, "resources") {
                    let of = format!("{resource}.{}", words(&rule, "apiGroups")[0]);
                    let verbs = words(&rule, "verbs").into_iter();
                    let all = verbs.map(|verb| format!("{verb} {of}"));
                    may.entry(stock.to_owned()).or_default().extend(all);
                }
            }
        }
    }
    assert_eq!(may.keys().collect::<Vec<_>>(), ["admin", "edit", "view"]);
    may
}

#[test]
fn tenants_get_what_people_write_and_no_more() {
    let mut differ = Vec::new();
    for set in ["openshift", "kubernetes"] {
        let may = tenants_may(set);
        let (edit, view) = (&may["edit"], &may["view"]);
        assert_eq!(edit, &may["admin"]);
        assert!(edit.is_superset(view));
        for one in edit {
            let (verb, of) = one.split_once(' ').unwrap();
            let (resource, group) = of.split_once('.').unwrap();
            let ours = group == "postern.dev";
            // Nothing of Kubernetes' own, so no Secret; nobody's status; no grants.
            assert!(ours || group == "gateway.networking.k8s.io", "{one}");
            assert!(!resource.contains('/'), "{one}");
            assert!(
                !ours || ["entitlements", "gatewayinstances"].contains(&resource),
                "{one}"
            );
            let reads = ["get", "list", "watch"].contains(&verb);
            assert!(reads || resource != "entitlements", "{one}");
        }
        assert!(
            view.iter().all(|one| one.starts_with(['g', 'l', 'w'])),
            "{view:?}"
        );
        assert!(edit.contains("create gatewayinstances.postern.dev"));
        assert!(edit.contains("update httproutes.gateway.networking.k8s.io"));
        differ.push(edit.clone());
    }
    let more: Vec<&String> = differ[1].difference(&differ[0]).collect();
    let gateways = ["create", "delete", "deletecollection", "patch", "update"]
        .map(|verb| format!("{verb} gateways.gateway.networking.k8s.io"));
    assert_eq!(more, gateways.iter().collect::<Vec<_>>());
    assert!(differ[1].is_superset(&differ[0]));
}

/// An admin chooses: neither the bundle nor the base gives tenants anything.
#[test]
fn rights_of_tenants_are_in_neither_the_bundle_nor_the_base() {
    let files = files(&release()).unwrap();
    let base = &files[Path::new("config/kustomization.yaml")];
    assert!(
        base.contains("20-operator-role") && !base.contains("tenants/"),
        "{base}"
    );
    let mut sets = 0;
    for (path, text) in &files {
        let is_set = path.starts_with("config/tenants");
        sets += usize::from(is_set);
        assert_eq!(text.contains("aggregate-to-"), is_set, "{}", path.display());
    }
    assert_eq!(sets, 2);
}

#[test]
fn the_bundle_and_the_plain_manifests_give_the_same() {
    let documents: BTreeMap<PathBuf, Value> = documents().into_iter().collect();
    let service_version =
        &documents[Path::new("bundle/manifests/postern.clusterserviceversion.yaml")];
    let spec = &service_version["spec"]["install"]["spec"];
    assert_eq!(
        spec["clusterPermissions"][0]["rules"],
        documents[Path::new("config/20-operator-role.yaml")]["rules"]
    );
    assert_eq!(
        spec["permissions"][0]["rules"],
        documents[Path::new("config/22-lease-role.yaml")]["rules"]
    );
    assert_eq!(
        spec["deployments"][0]["spec"],
        documents[Path::new("config/50-operator.yaml")]["spec"]
    );
    let reader = "postern-controlplane-reader";
    assert_eq!(
        documents[&PathBuf::from(format!("bundle/manifests/{reader}.clusterrole.yaml"))],
        documents[&PathBuf::from(format!("config/30-{reader}.yaml"))]
    );
}

#[test]
fn the_bundle_holds_nothing_of_the_gateway_api_and_no_policy() {
    for (path, document) in documents() {
        if !path.starts_with("bundle/manifests") {
            continue;
        }
        let kind = document["kind"].as_str().unwrap();
        assert!(
            [
                "ClusterServiceVersion",
                "CustomResourceDefinition",
                "ClusterRole"
            ]
            .contains(&kind),
            "{kind}"
        );
        if kind == "CustomResourceDefinition" {
            assert_eq!(document["spec"]["group"], "postern.dev");
        }
    }
}

#[test]
fn the_example_of_an_entitlement_is_no_instances() {
    let documents: BTreeMap<PathBuf, Value> = documents().into_iter().collect();
    let service_version =
        &documents[Path::new("bundle/manifests/postern.clusterserviceversion.yaml")];
    let examples = service_version["metadata"]["annotations"]["alm-examples"]
        .as_str()
        .unwrap();
    let examples: Vec<Value> = serde_json::from_str(examples).unwrap();
    let kinds: Vec<&str> = examples
        .iter()
        .filter_map(|example| example["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["Entitlement", "GatewayInstance", "TenantGrant"]);
    let name = examples[0]["metadata"]["name"].as_str().unwrap();
    assert!(
        !name.starts_with("postern-"),
        "{name} could be an instance's"
    );
}

/// Texts that YAML 1.1 readers take for something else must be quoted.
#[test]
fn texts_stay_texts() {
    for word in [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "null",
        "~",
        "1",
        "1e3",
        "0x10",
        "12:30",
        "2026-01-01",
        "*",
        "",
        " a",
        "a: b",
        "a #b",
        "{}",
        "|",
        "- a",
    ] {
        let text = text::yaml(&serde_json::json!({ "a": word })).unwrap();
        let line = text.lines().nth(1).unwrap();
        let value = line.strip_prefix("a: ").unwrap();
        assert!(
            value.starts_with('"') || value.starts_with('\''),
            "{word:?} is written as {line}"
        );
    }
}

#[test]
fn what_is_committed_is_as_the_code_says() {
    let arguments = GenArgs {
        check: true,
        operator_image: concat!("postern.dev/operator:v", env!("CARGO_PKG_VERSION")).into(),
        control_plane_image: concat!("postern.dev/controlplane:v", env!("CARGO_PKG_VERSION"))
            .into(),
        proxy_image: concat!("postern.dev/proxy:v", env!("CARGO_PKG_VERSION")).into(),
        bundle_image: concat!("postern.dev/bundle:v", env!("CARGO_PKG_VERSION")).into(),
        catalog_image: concat!("postern.dev/catalog:v", env!("CARGO_PKG_VERSION")).into(),
        into: None,
    };
    assert_eq!(run(&arguments).unwrap(), ExitCode::SUCCESS);
}

#[test]
fn a_check_names_what_is_changed_missing_or_too_much() {
    let directory = std::env::temp_dir().join(format!("postern-gen-{}", std::process::id()));
    let files = files(&release()).unwrap();
    for (path, text) in &files {
        let target = directory.join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, text).unwrap();
    }
    let names = || -> Vec<String> {
        let found = differences(&directory, &files).unwrap();
        found
            .keys()
            .map(|path| path.display().to_string())
            .collect()
    };
    assert_eq!(names(), Vec::<String>::new());
    let (changed, missing) = (
        "config/50-operator.yaml",
        "bundle/metadata/annotations.yaml",
    );
    fs::write(directory.join(changed), "changed").unwrap();
    fs::remove_file(directory.join(missing)).unwrap();
    fs::write(directory.join("crds/stray.yaml"), "stray").unwrap();
    assert_eq!(names(), [missing, changed, "crds/stray.yaml"]);
    fs::remove_dir_all(&directory).unwrap();
}
