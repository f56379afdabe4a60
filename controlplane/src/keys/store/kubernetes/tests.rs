use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use postern_cluster::{Cluster, Gone, Options};
use rustls::pki_types::UnixTime;
use serde_json::json;
use tokio::sync::watch;

use super::fake::FakeApi;
use super::*;
use crate::keys::authority::Bundle;
use crate::keys::store::{decode, encode};
use crate::keys::testing::{START, handshake_with, settle, short, subject};
use crate::keys::{Keeper, Lifetimes, SystemClock};

pub fn names() -> Names {
    Names {
        authority: "web-ca".into(),
        public: "web-trust".into(),
        server: "web-xds-server".into(),
        envoy: Arc::new(|shard| format!("web-envoy-{shard}")),
    }
}

fn store(client: kube::Client, pod: &str) -> KubernetesStore {
    let labels = BTreeMap::from([("postern.dev/instance".to_owned(), "web".to_owned())]);
    let owner = OwnerReference {
        api_version: "postern.dev/v1alpha1".into(),
        kind: "GatewayInstance".into(),
        name: "web".into(),
        uid: "0-1-2".into(),
        ..OwnerReference::default()
    };
    KubernetesStore::new(client, "team-a", names(), pod, labels, Some(owner))
}

async fn load(store: &KubernetesStore) -> Stored<Read> {
    store.load(&Part::of(&subject())).await.unwrap()
}

async fn save_all(store: &KubernetesStore, bundle: &Bundle) {
    let stored = load(store).await;
    for part in Part::of(&subject()) {
        let over = stored.get(&part).map(|(_, read)| read);
        let contents = encode(bundle, &part).unwrap();
        store.save(&part, &contents, over).await.unwrap();
    }
}

async fn whole_life(client: kube::Client) {
    let store = store(client, "pod-1");
    let bundle = settle(None, START, &short()).bundle;
    save_all(&store, &bundle).await;
    let (read, warnings) = decode(&load(&store).await, &subject());
    assert_eq!((read, warnings), (bundle.clone(), vec![]));

    let renewed = settle(Some(bundle), START + 800, &short()).bundle;
    save_all(&store, &renewed).await;
    let (read, warnings) = decode(&load(&store).await, &subject());
    assert_eq!((read, warnings), (renewed, vec![]));
}

#[tokio::test]
async fn objects_are_made_by_apply_and_then_only_replaced() {
    let api = FakeApi::default();
    whole_life(api.client()).await;
    let all = [
        "secrets/web-ca",
        "configmaps/web-trust",
        "secrets/web-envoy-default",
        "secrets/web-envoy-fast",
        "secrets/web-xds-server",
    ];
    let each = |verb: &str| all.map(|path| format!("{verb} {path}")).to_vec();
    let requests = api.requests();
    let expected = [
        each("GET"),
        each("PATCH"),
        each("GET"),
        each("GET"),
        each("PUT"),
        each("GET"),
    ];
    assert_eq!(requests, expected.concat());

    for (path, kind) in [
        ("web-ca", OPAQUE),
        ("web-envoy-fast", TLS),
        ("web-xds-server", TLS),
    ] {
        let secret = api.object(&format!("secrets/{path}"));
        assert_eq!(secret["type"], kind);
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "0-1-2");
        assert_eq!(secret["metadata"]["labels"]["postern.dev/instance"], "web");
    }
    let map = api.object("configmaps/web-trust");
    assert_eq!(map["data"].as_object().unwrap().len(), 1);
    assert!(!map.to_string().contains("PRIVATE"));
}

/// Two replicas that both believe to lead start at once. They end with the same keys.
async fn race(client: kube::Client) {
    let replica = |pod: &'static str| {
        let (_, subject) = watch::channel(Arc::new(subject()));
        let (leads, leader) = watch::channel(true);
        let store = store(client.clone(), pod);
        let keeper = Keeper::new(store, SystemClock, Lifetimes::default(), subject, leader);
        (keeper, leads)
    };
    let ((mut one, _one), (mut two, _two)) = (replica("pod-1"), replica("pod-2"));
    let (first, second) = tokio::join!(one.ready(), two.ready());
    let tasks = [tokio::spawn(one.run()), tokio::spawn(two.run())];
    let store = store(client, "pod-3");
    let settled = async {
        loop {
            let (read, warnings) = decode(&load(&store).await, &subject());
            let whole = read.envoys.len() == 2 && read.server.is_some();
            if whole && read.authorities[0].published.is_some() {
                return (read, warnings);
            }
        }
    };
    let limit = std::time::Duration::from_secs(30);
    let (read, warnings) = tokio::time::timeout(limit, settled).await.unwrap();
    assert_eq!((read.authorities.len(), warnings), (1, vec![]));
    let now = UnixTime::now().as_secs();
    for tls in [first, second] {
        let config = tls.borrow().clone();
        handshake_with(&config, &read.envoys["fast"], &subject(), "fast", now).unwrap();
    }
    for task in tasks {
        task.abort();
    }
}

#[tokio::test]
async fn two_that_start_at_once_end_with_the_same_keys() {
    race(FakeApi::default().client()).await;
}

#[tokio::test]
async fn who_comes_second_reads_what_the_first_has_made() {
    let api = FakeApi::default();
    let (one, two) = (store(api.client(), "pod-1"), store(api.client(), "pod-2"));
    let (ours, theirs) = (
        settle(None, START, &short()).bundle,
        settle(None, START, &short()).bundle,
    );
    let contents = |bundle| encode(bundle, &Part::Authority).unwrap();
    one.save(&Part::Authority, &contents(&ours), None)
        .await
        .unwrap();
    let error = two
        .save(&Part::Authority, &contents(&theirs), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict), "{error}");
    let stored = load(&two).await;
    let (read, _) = decode(&stored, &subject());
    assert_eq!(read.authorities, ours.authorities);

    // Both replace the same: one is late.
    let read = &stored[&Part::Authority].1;
    one.save(&Part::Authority, &contents(&theirs), Some(read))
        .await
        .unwrap();
    let error = two
        .save(&Part::Authority, &contents(&ours), Some(read))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict), "{error}");
    // Deleted meanwhile.
    api.delete("secrets/web-ca");
    let error = one
        .save(&Part::Authority, &contents(&ours), Some(read))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict), "{error}");
}

#[tokio::test]
async fn what_a_tenant_made_by_that_name_is_used_where_it_fits() {
    let api = FakeApi::default();
    let metadata = json!({"name": "web-envoy-fast", "namespace": "team-a",
        "labels": {"team": "a"}, "annotations": {"why": "mine"}});
    api.put(
        "secrets/web-envoy-fast",
        json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": metadata, "type": "Opaque", "data": {"tls.crt": "aGk="}}),
    );
    let store = store(api.client(), "pod-1");
    let (read, warnings) = decode(&load(&store).await, &subject());
    assert!(read.envoys.is_empty() && warnings.len() == 1);

    let bundle = settle(None, START, &short()).bundle;
    save_all(&store, &bundle).await;
    let secret = api.object("secrets/web-envoy-fast");
    assert_eq!(secret["type"], "Opaque", "a type cannot be changed");
    assert_eq!(secret["metadata"]["labels"], json!({"team": "a"}));
    assert_eq!(secret["metadata"]["annotations"], json!({"why": "mine"}));
    assert!(
        secret["metadata"].get("ownerReferences").is_none(),
        "nor who owns it"
    );
    assert_eq!(decode(&load(&store).await, &subject()), (bundle, vec![]));
}

#[tokio::test]
async fn a_refusal_says_what_was_refused_and_shows_no_key() {
    let api = FakeApi::default();
    let store = store(api.client(), "pod-1");
    let bundle = settle(None, START, &short()).bundle;
    save_all(&store, &bundle).await;
    let mut secret = api.object("secrets/web-xds-server");
    secret["immutable"] = json!(true);
    api.put("secrets/web-xds-server", secret);
    let renewed = settle(Some(bundle), START + 80, &short()).bundle;
    let stored = load(&store).await;
    let contents = encode(&renewed, &Part::Server).unwrap();
    let over = Some(&stored[&Part::Server].1);
    let error = store
        .save(&Part::Server, &contents, over)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)));
    let shown = format!("{error} {error:?}");
    assert!(
        shown.contains("web-xds-server: 422") && shown.contains("immutable"),
        "{shown}"
    );
    assert!(!shown.contains("PRIVATE"));
}

#[tokio::test]
async fn a_real_api_server_does_the_same() {
    let gone = Gone(format!("keys-{}", std::process::id()));
    let options = Options {
        light: true,
        ..Options::default()
    };
    let cluster = Cluster::up(&gone.0, &options).unwrap();
    let path = cluster.kubeconfig();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::config::Kubeconfig::read_from(path).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options)
        .await
        .unwrap();
    let client = kube::Client::try_from(config.clone()).unwrap();
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let new = serde_json::from_value(json!({"metadata": {"name": "team-a"}})).unwrap();
    let _ = namespaces.create(&PostParams::default(), &new).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "team-a");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "team-a");
    let clear = async || {
        for name in [
            "web-ca",
            "web-xds-server",
            "web-envoy-default",
            "web-envoy-fast",
        ] {
            let _ = secrets
                .delete(name, &kube::api::DeleteParams::default())
                .await;
        }
        let _ = maps
            .delete("web-trust", &kube::api::DeleteParams::default())
            .await;
    };
    clear().await;

    // The store acts with the rights that its documentation names, and no others.
    let verbs = json!(["get", "create", "patch", "update"]);
    let secret_names = [
        "web-ca",
        "web-xds-server",
        "web-envoy-default",
        "web-envoy-fast",
    ];
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "web"}, "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": secret_names, "verbs": verbs},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["web-trust"], "verbs": verbs}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "web"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "web"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "pod"}]});
    let params = PatchParams::apply("test").force();
    let roles: Api<Role> = Api::namespaced(client.clone(), "team-a");
    roles
        .patch("web", &params, &Patch::Apply(role))
        .await
        .unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), "team-a");
    bindings
        .patch("web", &params, &Patch::Apply(binding))
        .await
        .unwrap();
    let mut config = config;
    config.auth_info.impersonate = Some("pod".into());
    let limited = kube::Client::try_from(config).unwrap();
    let others: Api<Secret> = Api::namespaced(limited.clone(), "team-a");
    let refused = others.get("other").await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 403));
    assert!(
        others
            .list(&kube::api::ListParams::default())
            .await
            .is_err()
    );
    whole_life(limited.clone()).await;
    clear().await;
    race(limited.clone()).await;
    clear().await;
    let client = limited;

    // Two replicas make an authority at once: one is told so.
    let (one, two) = (
        store(client.clone(), "pod-1"),
        store(client.clone(), "pod-2"),
    );
    let (ours, theirs) = (
        settle(None, START, &short()).bundle,
        settle(None, START, &short()).bundle,
    );
    let contents = |bundle| encode(bundle, &Part::Authority).unwrap();
    let (ours, theirs) = (contents(&ours), contents(&theirs));
    let (a, b) = tokio::join!(
        one.save(&Part::Authority, &ours, None),
        two.save(&Part::Authority, &theirs, None)
    );
    let conflict = |result: &Result<(), StoreError>| matches!(result, Err(StoreError::Conflict));
    assert!(
        a.is_ok() != b.is_ok() && (conflict(&a) || conflict(&b)),
        "{a:?} {b:?}"
    );
    clear().await;

    // A Secret of a tenant's making keeps its type.
    let secret = json!({"metadata": {"name": "web-envoy-fast"}, "type": "Opaque",
        "stringData": {"tls.crt": "hi"}});
    let secret = serde_json::from_value(secret).unwrap();
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    let bundle = settle(None, START, &short()).bundle;
    save_all(&one, &bundle).await;
    assert_eq!(
        decode(&load(&one).await, &subject()),
        (bundle.clone(), vec![])
    );
    assert_eq!(
        secrets
            .get("web-envoy-fast")
            .await
            .unwrap()
            .type_
            .as_deref(),
        Some("Opaque")
    );
    let patch = Patch::Merge(json!({"immutable": true}));
    secrets
        .patch("web-envoy-fast", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let stored = load(&one).await;
    let part = Part::Envoy("fast".into());
    let renewed = encode(&settle(Some(bundle), START + 80, &short()).bundle, &part).unwrap();
    let error = one
        .save(&part, &renewed, Some(&stored[&part].1))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("422"), "{error}");
    clear().await;
}
