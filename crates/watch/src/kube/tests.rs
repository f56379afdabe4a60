use std::sync::Arc;
use std::time::Duration;

use postern_refs::{Kind, Snapshot};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;

use super::*;
use crate::mock::Mock;
use crate::scope::{Scope, Watch, WatchState};

const ROUTES: &str = "gateway.networking.k8s.io/v1/httproutes";

fn route(namespace: &str, name: &str, hostname: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": "u"}, "spec": {"hostnames": [hostname]}})
}

fn secret(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}, "type": "kubernetes.io/tls", "data": {"tls.crt": "Qw=="}})
}

fn source(mock: &Mock, watches: &[Watch]) -> KubeSource {
    let mut options = Options::new(Some("own".into()));
    options.reauthorise = Duration::from_secs(1);
    KubeSource::spawn(mock.clients(), watches.iter().cloned().collect(), options)
}

/// Waits until a Snapshot meets a condition.
async fn until(
    snapshots: &mut Receiver<Option<Arc<Snapshot>>>,
    meets: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let wait = snapshots.wait_for(|snapshot| snapshot.as_deref().is_some_and(&meets));
    let snapshot = tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("in time")
        .expect("the source lives");
    Arc::clone(snapshot.as_ref().expect("a Snapshot"))
}

async fn covered(source: &KubeSource, watch: &Watch, state: WatchState) {
    let mut coverage = source.coverage();
    let wait = coverage.wait_for(|coverage| coverage.get(watch) == Some(&state));
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("in time")
        .expect("the source lives");
}

fn routes(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .http_routes
        .keys()
        .map(ToString::to_string)
        .collect()
}

fn secrets(snapshot: &Snapshot) -> Vec<String> {
    snapshot.secrets.keys().map(ToString::to_string).collect()
}

async fn follows(mock: Mock) {
    mock.put(ROUTES, &route("own", "a", "a.example"));
    mock.put(ROUTES, &route("own", "b", "b.example"));
    mock.put(ROUTES, &route("other", "c", "c.example"));
    mock.put(
        ROUTES,
        &json!({"metadata": {"namespace": "own", "name": "bad"}, "spec": {"rules": 1}}),
    );
    let source = source(
        &mock,
        &[
            Watch::namespace(Kind::HttpRoute, "own"),
            Watch::namespace(Kind::Service, "own"),
        ],
    );
    let mut snapshots = source.snapshots();
    let first = until(&mut snapshots, |_| true).await;
    assert_eq!(routes(&first), ["own/a", "own/b", "own/bad"]);

    // A status alone makes no Snapshot.
    let mut observed = source.observed().changes();
    observed.borrow_and_update();
    let mut with_status = route("own", "a", "a.example");
    with_status["status"] = json!({"parents": [{"controllerName": postern_api::CONTROLLER_NAME, "parentRef": {"name": "g"}}]});
    mock.put(ROUTES, &with_status);
    observed.changed().await.expect("the source lives");
    mock.put(ROUTES, &route("own", "b", "changed.example"));
    let second = until(&mut snapshots, |now| {
        !Arc::ptr_eq(&now.http_routes, &first.http_routes)
    })
    .await;
    let key = |name: &str| postern_refs::Key::new("own", name);
    assert!(Arc::ptr_eq(
        &first.http_routes[&key("a")],
        &second.http_routes[&key("a")]
    ));
    assert!(Arc::ptr_eq(&first.services, &second.services));

    mock.delete(ROUTES, "own", "b");
    until(&mut snapshots, |now| routes(now) == ["own/a", "own/bad"]).await;
    assert_eq!(source.observed().read(std::collections::BTreeMap::len), 2);
    drop(source);
    assert!(snapshots.changed().await.is_err());
}

#[tokio::test]
async fn a_streamed_list_is_followed() {
    let mock = Mock::gateway_api();
    follows(mock.clone()).await;
    let lists = mock
        .requests()
        .iter()
        .filter(|request| request.contains("httproutes") && !request.contains("watch=true"))
        .count();
    assert_eq!(lists, 0);
}

#[tokio::test]
async fn a_server_that_cannot_stream_lists_is_followed() {
    let mock = Mock::gateway_api();
    mock.no_streaming();
    follows(mock).await;
}

#[tokio::test]
async fn no_snapshot_before_every_watch_is_settled() {
    let mock = Mock::gateway_api();
    mock.put(ROUTES, &route("own", "a", "a.example"));
    mock.put("v1/secrets", &secret("own", "s"));
    mock.deny("secrets");
    let (routes_watch, secret_watch) = (
        Watch::namespace(Kind::HttpRoute, "own"),
        Watch::object(Kind::Secret, "own", "s"),
    );
    let source = source(&mock, &[routes_watch.clone(), secret_watch.clone()]);
    let mut snapshots = source.snapshots();
    covered(&source, &routes_watch, WatchState::Loaded).await;
    assert!(
        snapshots.borrow().is_none(),
        "the Secret may only not be granted yet"
    );
    // The grant arrives at this API server within the time that is retried quickly.
    mock.allow("secrets");
    let first = until(&mut snapshots, |_| true).await;
    assert_eq!(
        (routes(&first), secrets(&first)),
        (vec!["own/a".into()], vec!["own/s".to_owned()])
    );
}

#[tokio::test]
async fn what_stays_refused_holds_nothing_up_and_is_asked_again() {
    let mock = Mock::gateway_api();
    mock.put("v1/secrets", &secret("own", "s"));
    mock.deny("secrets");
    let watch = Watch::object(Kind::Secret, "own", "s");
    let source = source(&mock, std::slice::from_ref(&watch));
    let mut snapshots = source.snapshots();
    let first = until(&mut snapshots, |_| true).await;
    assert!(first.secrets.is_empty());
    assert_eq!(source.coverage().borrow()[&watch], WatchState::Refused);
    mock.allow("secrets");
    // The operator has granted it: the scope comes again, and nobody waits for a back-off.
    source.set_scope(Scope::from([watch]));
    until(&mut snapshots, |now| secrets(now) == ["own/s"]).await;
}

#[tokio::test]
async fn a_revocation_drops_the_objects_of_its_watch_alone() {
    let mock = Mock::gateway_api();
    mock.put(ROUTES, &route("own", "a", "a.example"));
    mock.put(ROUTES, &route("other", "b", "b.example"));
    mock.put("v1/secrets", &secret("other", "s"));
    let foreign = Watch::namespace(Kind::HttpRoute, "other");
    let source = source(
        &mock,
        &[
            Watch::namespace(Kind::HttpRoute, "own"),
            foreign.clone(),
            Watch::object(Kind::Secret, "other", "s"),
        ],
    );
    let mut snapshots = source.snapshots();
    let all = until(&mut snapshots, |_| true).await;
    assert_eq!(
        (routes(&all), secrets(&all)),
        (
            vec!["other/b".into(), "own/a".to_owned()],
            vec!["other/s".to_owned()]
        )
    );

    // The open watch goes on delivering: only a new one is refused.
    mock.deny("namespaces/other/httproutes");
    let after = until(&mut snapshots, |now| routes(now) == ["own/a"]).await;
    assert_eq!(secrets(&after), ["other/s"]);
    covered(&source, &foreign, WatchState::Refused).await;
    // Granted again: listed again, with what was deleted meanwhile gone.
    mock.put(ROUTES, &route("other", "c", "c.example"));
    mock.delete(ROUTES, "other", "b");
    mock.allow("namespaces/other/httproutes");
    until(&mut snapshots, |now| routes(now) == ["other/c", "own/a"]).await;
}

#[tokio::test]
async fn the_scope_changes_while_it_runs() {
    let mock = Mock::gateway_api();
    for name in ["one", "two", "three"] {
        mock.put("v1/secrets", &secret("own", name));
    }
    let watch = |name: &str| Watch::object(Kind::Secret, "own", name);
    let source = source(&mock, &[watch("one"), watch("two")]);
    let mut snapshots = source.snapshots();
    let first = until(&mut snapshots, |now| secrets(now) == ["own/one", "own/two"]).await;
    source.set_scope(Scope::from([watch("two"), watch("three")]));
    let second = until(&mut snapshots, |now| {
        secrets(now) == ["own/three", "own/two"]
    })
    .await;
    let key = postern_refs::Key::new("own", "two");
    assert!(Arc::ptr_eq(&first.secrets[&key], &second.secrets[&key]));
    // Nothing unasked was read, and the watch that stayed was not begun again.
    let asked = |name: &str| {
        mock.requests()
            .iter()
            .filter(|request| request.contains(&format!("metadata.name%3D{name}")))
            .count()
    };
    assert_eq!((asked("one"), asked("two"), asked("three")), (1, 1, 1));
    // A namespace's watch beside a single object's: what either holds stays.
    source.set_scope(Scope::from([
        watch("two"),
        Watch::namespace(Kind::Secret, "own"),
    ]));
    until(&mut snapshots, |now| now.secrets.len() == 3).await;
    source.set_scope(Scope::from([Watch::namespace(Kind::Secret, "own")]));
    mock.put("v1/secrets", &secret("own", "four"));
    until(&mut snapshots, |now| now.secrets.len() == 4).await;
    source.set_scope(Scope::new());
    until(&mut snapshots, |now| now.secrets.is_empty()).await;
}

#[tokio::test]
async fn kinds_come_and_go_and_versions_are_those_that_are_served() {
    let mock = Mock::new(&[(
        "gateway.networking.k8s.io/v1beta1",
        "referencegrants",
        "ReferenceGrant",
    )]);
    let grant =
        json!({"metadata": {"namespace": "own", "name": "g"}, "spec": {"from": [], "to": []}});
    mock.put("gateway.networking.k8s.io/v1beta1/referencegrants", &grant);
    mock.put(ROUTES, &route("own", "a", "a.example"));
    let routes_watch = Watch::namespace(Kind::HttpRoute, "own");
    let source = source(
        &mock,
        &[routes_watch.clone(), Watch::cluster(Kind::ReferenceGrant)],
    );
    let mut snapshots = source.snapshots();
    let first = until(&mut snapshots, |_| true).await;
    assert_eq!(
        (first.http_routes.len(), first.reference_grants.len()),
        (0, 1)
    );
    assert_eq!(
        source.coverage().borrow()[&routes_watch],
        WatchState::Absent
    );
    {
        let kinds = source.kinds();
        let kinds = kinds.borrow();
        assert_eq!(
            kinds.absent.iter().copied().collect::<Vec<_>>(),
            [Kind::HttpRoute]
        );
        assert_eq!(kinds.resources[&Kind::ReferenceGrant].version, "v1beta1");
    }
    // The definitions come.
    mock.serve("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute");
    mock.serve(
        "gateway.networking.k8s.io/v1",
        "referencegrants",
        "ReferenceGrant",
    );
    mock.put("gateway.networking.k8s.io/v1/referencegrants", &grant);
    source.rediscover();
    let second = until(&mut snapshots, |now| now.http_routes.len() == 1).await;
    assert_eq!(second.reference_grants.len(), 1);
    assert_eq!(
        source.kinds().borrow().resources[&Kind::ReferenceGrant].version,
        "v1"
    );
}

#[tokio::test]
async fn an_entitlement_without_a_status_is_no_news() {
    let entitlements = "postern.dev/v1alpha1/entitlements";
    let mock = Mock::new(&[("postern.dev/v1alpha1", "entitlements", "Entitlement")]);
    let object = |version: Option<u32>| {
        let mut object = json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Entitlement",
            "metadata": {"namespace": "own", "name": "e"}, "spec": {},
        });
        if let Some(version) = version {
            object["status"] = json!({"contractVersion": version, "unknown": {"field": 1}});
        }
        object
    };
    mock.put(entitlements, &object(None));
    let source = EntitlementSource::spawn(&mock.clients(), "own", "e").expect("a source");
    let mut statuses = source.statuses();
    assert!(statuses.borrow().is_none());
    mock.put(entitlements, &object(Some(1)));
    statuses
        .wait_for(|status| {
            status
                .as_ref()
                .is_some_and(|status| status.contract_version == 1)
        })
        .await
        .expect("alive");
    // A tenant strips it, deletes it; the operator brings it back.
    mock.put(entitlements, &object(None));
    mock.delete(entitlements, "own", "e");
    mock.put(entitlements, &object(Some(2)));
    statuses.changed().await.expect("alive");
    assert_eq!(
        statuses
            .borrow()
            .as_ref()
            .map(|status| status.contract_version),
        Some(2)
    );
}
