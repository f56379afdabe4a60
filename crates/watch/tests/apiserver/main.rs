//! Against a real API server: one light cluster for all of it. Its users are never admins.
#![allow(clippy::expect_used, clippy::panic, reason = "all of this is a test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use postern_api::CONTROLLER_NAME;
use postern_cluster::Channel;
use postern_refs::objects::ParentRef;
use postern_refs::status::{Condition, ParentStatus, RouteStatus, Status, Statuses, Truth};
use postern_refs::{Key, Kind, Snapshot};
use postern_watch::kube::{Clients, EntitlementSource, KubeSource, Options};
use postern_watch::lease::{LeaseHolder, Timing};
use postern_watch::status::StatusWriter;
use postern_watch::{Scope, Watch, WatchState, digest};
use serde_json::json;
use tokio::sync::watch;

use self::support::*;

#[tokio::test]
async fn a_real_api_server_is_followed_and_written_to() {
    let world = World::up();
    let crds = world.cluster.gateway_api_crds(Channel::Standard);
    world.kubectl(
        &["apply", "--server-side", "-f", &crds.to_string_lossy()],
        "",
    );
    world.kubectl(
        &[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=60s",
        ],
        "",
    );
    entitlements(&world);

    let mut objects = vec![
        namespace("own"),
        namespace("other"),
        route("own", "r", "a.example"),
        route("other", "f", "b.example"),
    ];
    objects.extend((0..SECRETS).map(|number| secret(&format!("s{number}"), "first")));
    objects.extend([
        secret("unreferenced", "hidden"),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "own", "name": "s"}, "spec": {"ports": [{"port": 80}]}}),
    ]);
    let read = ["get", "list", "watch"];
    let names: Vec<String> = (0..SECRETS).map(|number| format!("s{number}")).collect();
    let mut by_name = rule("", &["secrets"], &read);
    by_name["resourceNames"] = json!(names);
    objects.extend(role(
        "own",
        "cp",
        &json!([
            rule("gateway.networking.k8s.io", &["httproutes"], &read),
            rule(
                "gateway.networking.k8s.io",
                &["httproutes/status"],
                &["update"]
            ),
            rule("", &["services"], &read),
            rule("postern.dev", &["entitlements"], &read),
            rule(
                "coordination.k8s.io",
                &["leases"],
                &["get", "create", "update", "patch"]
            ),
            by_name,
        ]),
    ));
    objects.extend(role(
        "other",
        "cp",
        &json!([rule("gateway.networking.k8s.io", &["httproutes"], &read)]),
    ));
    world.apply(&objects);

    let configuration = world.config("cp").await;
    let port = configuration.cluster_url.port_u16().expect("a port");
    let before = anonymous_kib();
    let clients = Clients::new(&configuration).expect("clients");
    let mut options = Options::new(Some("own".into()));
    options.reauthorise = Duration::from_secs(3);
    let foreign = Watch::namespace(Kind::HttpRoute, "other");
    let mut scope = Scope::from([
        Watch::namespace(Kind::HttpRoute, "own"),
        Watch::namespace(Kind::Service, "own"),
        foreign.clone(),
    ]);
    scope.extend(
        names
            .iter()
            .map(|name| Watch::object(Kind::Secret, "own", name.as_str())),
    );
    let source = KubeSource::spawn(clients.clone(), scope.clone(), options);
    let mut snapshots = source.snapshots();
    let begun = std::time::Instant::now();
    let first = until("the first Snapshot", &mut snapshots, |_| true).await;
    println!(
        "{} watches settled after {:?}, on {} connections, {} KiB anonymous more",
        scope.len(),
        begun.elapsed(),
        connections(port),
        anonymous_kib().saturating_sub(before),
    );
    assert_eq!(
        first.secrets.len(),
        SECRETS,
        "every Secret that is named, and no other"
    );
    assert_eq!(hostname(&first, "own", "r").as_deref(), Some("a.example"));
    assert_eq!(hostname(&first, "other", "f").as_deref(), Some("b.example"));
    let r = &first.http_routes[&Key::new("own", "r")];
    assert_eq!(
        r.unsupported
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["spec.rules[0].timeouts"]
    );
    assert!(r.meta.created > 0 && r.meta.generation == 1 && r.meta.uid.len() == 36);
    // 303 watches at 80 each, and the client for all else.
    assert!(
        (4..=6).contains(&connections(port)),
        "{}",
        connections(port)
    );

    // A change to the last one arrives, and the same client's Lease is had and renewed meanwhile.
    let leader = lease(&clients);
    within("the Lease", leader.leader().wait_for(|leads| *leads))
        .await
        .expect("alive");
    world.apply(&[secret("s299", "second")]);
    until("the change", &mut snapshots, |now| {
        certificate(now, "s299").as_deref() == Some("second")
    })
    .await;

    statuses(&world, &source, &clients, leader.leader()).await;
    revocation(&world, &source, &mut snapshots, &foreign).await;
    contract(&world, &clients).await;
    refusal(&world).await;
    leader.release().await;
    assert!(
        world.get("lease", "own", "l")["spec"]
            .get("holderIdentity")
            .is_none()
    );
}

fn lease(clients: &Clients) -> LeaseHolder {
    let metadata = ObjectMeta {
        name: Some("l".into()),
        namespace: Some("own".into()),
        ..ObjectMeta::default()
    };
    let timing = Timing {
        duration: Duration::from_secs(5),
        deadline: Duration::from_secs(4),
        retry: Duration::from_secs(1),
    };
    LeaseHolder::spawn(clients.general(), metadata, "pod-1", timing)
}

fn meant(reason: &str) -> Arc<Statuses> {
    let parent = ParentRef {
        group: "gateway.networking.k8s.io".into(),
        kind: "Gateway".into(),
        namespace: None,
        name: "g".into(),
        section: None,
        port: None,
    };
    let condition = Condition {
        kind: "Accepted".into(),
        status: Truth::True,
        reason: reason.into(),
        message: "m".into(),
        observed_generation: 1,
    };
    let status = RouteStatus {
        parents: vec![ParentStatus {
            parent,
            conditions: vec![condition],
        }],
    };
    Arc::new(BTreeMap::from([(
        (Kind::HttpRoute, Key::new("own", "r")),
        Arc::new(Status::Route(status)),
    )]))
}

async fn statuses(
    world: &World,
    source: &KubeSource,
    clients: &Clients,
    leader: watch::Receiver<bool>,
) {
    // Another controller was here first.
    let theirs = json!({"status": {"parents": [{
        "controllerName": "other.example/c", "parentRef": {"name": "g"},
        "conditions": [{"type": "Accepted", "status": "False", "reason": "No", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }]}});
    world.kubectl(
        &[
            "patch",
            "httproute",
            "-n",
            "own",
            "r",
            "--subresource=status",
            "--type=merge",
            "-p",
            &theirs.to_string(),
        ],
        "",
    );
    let writer = StatusWriter::spawn(clients.general(), source.kinds(), source.observed(), leader);
    for reason in ["Accepted", "Other"] {
        let meant = meant(reason);
        writer.set(Arc::clone(&meant));
        let observed = source.observed();
        let mut changes = observed.changes();
        let ((kind, key), status) = meant.first_key_value().expect("one");
        // What the API server made of it reads back as what was meant.
        within("the status", async {
            while observed
                .get(*kind, key)
                .is_none_or(|seen| seen.digest != Some(digest(status)))
            {
                changes.changed().await.expect("alive");
            }
        })
        .await;
    }
    let parents = world.get("httproute", "own", "r")["status"]["parents"].clone();
    assert_eq!(parents[0]["controllerName"], "other.example/c");
    assert_eq!(
        parents[0]["conditions"][0]["lastTransitionTime"],
        "2026-01-01T00:00:00Z"
    );
    assert_eq!(parents[1]["controllerName"], CONTROLLER_NAME);
    assert_eq!(parents[1]["conditions"][0]["reason"], "Other");
    // The watch may tell of a write before the write's own answer is in.
    let mut written = writer.written();
    let both = written.wait_for(|so_far| so_far.written >= 2);
    drop(within("both answers", both).await.expect("alive"));
    assert_eq!(writer.written().borrow().written, 2);

    // It is idle: the Lease alone changes.
    let version = |kind: &str, name: &str| {
        world.get(kind, "own", name)["metadata"]["resourceVersion"].clone()
    };
    let (route, lease) = (version("httproute", "r"), version("lease", "l"));
    within("a renewal", async {
        while version("lease", "l") == lease {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    assert_eq!(version("httproute", "r"), route);
    assert_eq!(writer.written().borrow().written, 2);
}

async fn revocation(
    world: &World,
    source: &KubeSource,
    snapshots: &mut watch::Receiver<Option<Arc<Snapshot>>>,
    foreign: &Watch,
) {
    world.kubectl(&["delete", "rolebinding", "-n", "other", "cp"], "");
    let after = until("the revocation", snapshots, |now| {
        hostname(now, "other", "f").is_none()
    })
    .await;
    assert_eq!(hostname(&after, "own", "r").as_deref(), Some("a.example"));
    assert_eq!(after.secrets.len(), SECRETS);
    let mut coverage = source.coverage();
    let wait = coverage.wait_for(|coverage| coverage[foreign] == WatchState::Refused);
    drop(within("the refusal", wait).await.expect("alive"));
    world.apply(&role(
        "other",
        "cp",
        &json!([rule(
            "gateway.networking.k8s.io",
            &["httproutes"],
            &["get", "list", "watch"]
        )]),
    ));
    until("the new grant", snapshots, |now| {
        hostname(now, "other", "f").is_some()
    })
    .await;
}

/// A definition as loose as the real one is strict: this test is about watching.
fn entitlements(world: &World) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    world.apply(&[json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "entitlements.postern.dev"},
        "spec": {
            "group": "postern.dev", "scope": "Namespaced",
            "names": {"plural": "entitlements", "kind": "Entitlement"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}}],
        },
    })]);
    world.kubectl(
        &[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=60s",
        ],
        "",
    );
}

async fn contract(world: &World, clients: &Clients) {
    let object = json!({"apiVersion": "postern.dev/v1alpha1", "kind": "Entitlement", "metadata": {"namespace": "own", "name": "e"}, "spec": {}});
    world.apply(std::slice::from_ref(&object));
    let source = EntitlementSource::spawn(clients, "own", "e").expect("a source");
    let mut statuses = source.statuses();
    let say = |version: u32| {
        let patch = json!({"status": {"contractVersion": version}}).to_string();
        world.kubectl(
            &[
                "patch",
                "entitlement",
                "-n",
                "own",
                "e",
                "--subresource=status",
                "--type=merge",
                "-p",
                &patch,
            ],
            "",
        );
    };
    say(1);
    let first = statuses.wait_for(|status| {
        status
            .as_ref()
            .is_some_and(|status| status.contract_version == 1)
    });
    drop(within("the contract", first).await.expect("alive"));
    world.kubectl(&["delete", "entitlement", "-n", "own", "e"], "");
    world.apply(&[object]);
    say(2);
    within("the next contract", statuses.changed())
        .await
        .expect("alive");
    assert_eq!(
        statuses
            .borrow()
            .as_ref()
            .map(|status| status.contract_version),
        Some(2)
    );
}

/// The same user may not read what was not granted: the tests above are not passed by an admin.
async fn refusal(world: &World) {
    let client = Client::try_from(world.config("cp").await).expect("a client");
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
        kube::Api::namespaced(client, "own");
    assert!(secrets.get("s0").await.is_ok());
    for refused in [
        secrets.get("unreferenced").await.map(|_| ()),
        secrets
            .list(&kube::api::ListParams::default())
            .await
            .map(|_| ()),
    ] {
        let Err(kube::Error::Api(status)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(status.code, 403);
    }
}
