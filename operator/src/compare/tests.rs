use serde_json::{Map, Value, json};

use super::{content, equal, keep_allowed, same};

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("an object was expected: {other}"),
    }
}

fn deployment() -> Value {
    json!({"spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {
                "serviceAccountName": "x",
                "containers": [{
                    "name": "envoy",
                    "image": "envoy:1",
                    "args": ["run"],
                    "env": [{"name": "A", "value": "1"}],
                    "ports": [{"containerPort": 80}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 1}},
                }],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    }})
}

/// The same as an API server returns it.
fn completed() -> Value {
    let mut live = deployment();
    let merge = json!({
        "/spec/progressDeadlineSeconds": 600,
        "/spec/revisionHistoryLimit": 10,
        "/spec/template/spec/dnsPolicy": "ClusterFirst",
        "/spec/template/spec/restartPolicy": "Always",
        "/spec/template/spec/schedulerName": "default-scheduler",
        "/spec/template/spec/securityContext": {},
        "/spec/template/spec/serviceAccount": "x",
        "/spec/template/spec/terminationGracePeriodSeconds": 30,
        "/spec/template/spec/containers/0/imagePullPolicy": "IfNotPresent",
        "/spec/template/spec/containers/0/terminationMessagePath": "/dev/termination-log",
        "/spec/template/spec/containers/0/terminationMessagePolicy": "File",
        "/spec/template/spec/containers/0/ports/0/protocol": "TCP",
        "/spec/template/spec/containers/0/readinessProbe/periodSeconds": 10,
        "/spec/template/spec/containers/0/readinessProbe/httpGet/scheme": "HTTP",
    });
    for (path, value) in map(merge) {
        set(&mut live, &path, value);
    }
    live
}

fn set(object: &mut Value, path: &str, value: Value) {
    let (parent, key) = path.rsplit_once('/').expect("a path");
    match object.pointer_mut(parent).expect("a parent") {
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        Value::Array(items) => items.push(value),
        other => panic!("no container: {other}"),
    }
}

fn verdict(live: Value) -> Result<(), String> {
    same(&map(deployment()), &map(live))
}

#[test]
fn what_the_server_completed_is_the_same() {
    assert_eq!(verdict(deployment()), Ok(()));
    assert_eq!(verdict(completed()), Ok(()));
}

#[test]
fn anything_foreign_is_in_doubt_wherever_it_stands() {
    let pod = "/spec/template/spec";
    let cases = [
        ("/spec/replicas", json!(3)),
        ("/spec/paused", json!(true)),
        (
            &*format!("{pod}/containers/-"),
            json!({"name": "sidecar", "image": "x"}),
        ),
        (&*format!("{pod}/initContainers"), json!([{"name": "init"}])),
        (&*format!("{pod}/hostNetwork"), json!(true)),
        (&*format!("{pod}/serviceAccountName"), json!("admin")),
        (&*format!("{pod}/serviceAccount"), json!("admin")),
        (
            &*format!("{pod}/volumes/-"),
            json!({"name": "loot", "secret": {"secretName": "s"}}),
        ),
        (&*format!("{pod}/dnsPolicy"), json!("Default")),
        (&*format!("{pod}/securityContext"), json!({"runAsUser": 0})),
        (&*format!("{pod}/terminationGracePeriodSeconds"), json!(0)),
        (&*format!("{pod}/containers/0/args/-"), json!("--evil")),
        (&*format!("{pod}/containers/0/command"), json!(["sh"])),
        (
            &*format!("{pod}/containers/0/env/-"),
            json!({"name": "LD_PRELOAD", "value": "x"}),
        ),
        (
            &*format!("{pod}/containers/0/envFrom"),
            json!([{"secretRef": {"name": "s"}}]),
        ),
        (&*format!("{pod}/containers/0/image"), json!("evil:1")),
        (&*format!("{pod}/containers/0/lifecycle"), json!({})),
        (
            "/spec/template/metadata/annotations",
            json!({"inject": "me"}),
        ),
        ("/spec/template/metadata/labels/c", json!("d")),
    ];
    for (path, value) in cases {
        let mut live = completed();
        let path = path.replace("/-", "/0");
        set(&mut live, &path, value);
        let doubt = verdict(live).expect_err(&path);
        let first = doubt.split(['.', '[']).nth(1).unwrap_or_default();
        assert_eq!(first, "spec", "{doubt} for {path}");
    }
}

#[test]
fn what_is_missing_is_in_doubt() {
    for path in [
        "/spec/template/spec/volumes",
        "/spec/template/spec/containers/0/env",
    ] {
        let mut live = completed();
        let (parent, key) = path.rsplit_once('/').expect("a path");
        let parent = live
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("a parent");
        parent.remove(key);
        assert!(verdict(live).is_err(), "{path}");
    }
}

#[test]
fn an_emptied_selector_is_in_doubt_and_an_empty_list_is_none() {
    let policy = |rules: Value| map(json!({"spec": {"podSelector": {}, "ingress": rules}}));
    let narrow = policy(json!([{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}]));
    let wide = policy(json!([{"from": [{
        "podSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {}
    }]}]));
    assert_eq!(
        same(&narrow, &wide),
        Err(".spec.ingress[0].from[0].namespaceSelector".to_owned())
    );
    assert!(same(&narrow, &policy(json!([{}]))).is_err());
    let deny = map(json!({"spec": {"podSelector": {}}}));
    assert_eq!(same(&policy(json!([])), &deny), Ok(()));
    assert_eq!(same(&deny, &policy(json!([]))), Ok(()));
    assert!(same(&deny, &policy(json!([{}]))).is_err());
}

#[test]
fn addresses_and_node_ports_of_a_service_are_the_clusters() {
    let desired = map(json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}}));
    let live = map(json!({"spec": {
        "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
    }}));
    assert_eq!(same(&desired, &live), Ok(()));
    let mut stolen = live.clone();
    stolen["spec"]["externalIPs"] = json!(["192.0.2.1"]);
    assert_eq!(same(&desired, &stolen), Err(".spec.externalIPs".to_owned()));
}

#[test]
fn pull_secrets_of_a_service_account_are_the_platforms() {
    let live = map(json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x"},
        "automountServiceAccountToken": false,
        "secrets": [{"name": "x-dockercfg"}], "imagePullSecrets": [{"name": "x-dockercfg"}],
    }));
    let desired = map(json!({"automountServiceAccountToken": false}));
    assert_eq!(same(&desired, &content("ServiceAccount", &live)), Ok(()));
    assert!(equal("ServiceAccount", &desired, &live));
    let mut other = live;
    other["automountServiceAccountToken"] = json!(true);
    assert!(!equal("ServiceAccount", &desired, &other));
}

#[test]
fn a_restart_that_somebody_asked_for_is_kept_and_nothing_else() {
    let mut live = completed();
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01", "inject": "me"});
    set(
        &mut live,
        "/spec/template/metadata/annotations",
        annotations,
    );
    let live = map(live);
    let mut desired = map(deployment());
    keep_allowed("Deployment", &mut desired, &live);
    assert_eq!(
        desired["spec"]["template"]["metadata"]["annotations"],
        json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01"})
    );
    assert!(same(&desired, &live).is_err());
}
