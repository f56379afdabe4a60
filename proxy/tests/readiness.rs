//! When a real Envoy is called ready, and what its endpoints show.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{Files, directory, envoy_binary, eventually, get, listener_address, phase, stat};
use postern_proxy::Prepared;
use postern_proxy::admin::AdminError;
use postern_proxy::readiness::{Phase, Waiting};
use serde_json::json;

#[tokio::test]
async fn listeners_and_routes_make_it_ready_and_it_stays_so() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let files = Files::new(root.path());
    files.listener();
    files.routes("first");
    let settings = common::settings(envoy, root.path());
    let supervisor = files.start(&settings).await;
    phase(&supervisor, Phase::Ready).await;

    let address = listener_address(&supervisor).await;
    assert!(get(address, "/").await.1.ends_with("first"));
    assert_eq!(get(supervisor.readiness_address(), "/ready").await.0, 200);
    let (status, metrics) = get(supervisor.metrics_address(), "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("envoy_http_downstream_rq_total{"),
        "{metrics}"
    );
    assert!(
        metrics.contains("envoy_listener_manager_lds_update_success{} 1"),
        "{metrics}"
    );

    // A bad table later: refused, the last good one serves, and it stays ready.
    files.bad_routes();
    eventually("a refusal", || async {
        (stat(&supervisor, "http.one.rds.table.update_rejected").await? == 1).then_some(())
    })
    .await;
    assert!(get(address, "/").await.1.ends_with("first"));
    assert_eq!(get(supervisor.readiness_address(), "/ready").await.0, 200);
}

#[tokio::test]
async fn the_statistics_that_tests_stand_on_are_made() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let files = Files::new(root.path());
    files.listener();
    files.routes("first");
    let supervisor = files.start(&common::settings(envoy, root.path())).await;
    phase(&supervisor, Phase::Ready).await;
    for subscription in [
        "listener_manager.lds",
        "cluster_manager.cds",
        "http.one.rds.table",
    ] {
        for (name, value) in [
            ("update_success", 1),
            ("update_rejected", 0),
            ("update_failure", 0),
        ] {
            let name = format!("{subscription}.{name}");
            assert_eq!(stat(&supervisor, &name).await, Some(value), "{name}");
        }
    }
    for name in [
        "server.state",
        "http.one.downstream_rq_active",
        "http.one.downstream_rq_total",
        "cluster_manager.active_clusters",
        // The static cluster's certificates.
        "sds.xds-certificate.update_success",
        "sds.xds-validation.update_rejected",
    ] {
        let found = stat(&supervisor, name).await;
        let all = supervisor.admin().get("/stats").await.unwrap();
        assert!(found.is_some(), "{name} among:\n{all}");
    }
    // And what nobody reads is not made.
    assert_eq!(
        stat(&supervisor, "http.one.downstream_cx_http1_active").await,
        None
    );
}

#[tokio::test]
async fn no_listener_at_all_is_ready_once_that_is_known() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let files = Files::new(root.path());
    files.resources("lds", &[]);
    let supervisor = files.start(&common::settings(envoy, root.path())).await;
    phase(&supervisor, Phase::Ready).await;
    assert_eq!(get(supervisor.readiness_address(), "/ready").await.0, 200);
}

/// Envoy says LIVE here, and answers 404.
#[tokio::test]
async fn a_refused_table_at_the_start_is_not_ready_until_it_is_mended() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let files = Files::new(root.path());
    files.listener();
    files.bad_routes();
    let supervisor = files.start(&common::settings(envoy, root.path())).await;
    phase(&supervisor, Phase::Starting(Waiting::Routes { absent: 1 })).await;
    assert_eq!(supervisor.admin().get("/ready").await.unwrap(), "LIVE\n");
    let address = listener_address(&supervisor).await;
    assert_eq!(get(address, "/").await.0, 404);
    assert_eq!(get(supervisor.readiness_address(), "/ready").await.0, 503);

    files.routes("mended");
    phase(&supervisor, Phase::Ready).await;
    assert!(get(address, "/").await.1.ends_with("mended"));
    assert_eq!(get(supervisor.readiness_address(), "/ready").await.0, 200);
}

/// The answer that there is no such table counts as a success in Envoy's `update_success`.
#[tokio::test]
async fn a_table_that_does_not_exist_is_not_ready() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let files = Files::new(root.path());
    files.listener();
    files.resources("rds", &[]);
    let supervisor = files.start(&common::settings(envoy, root.path())).await;
    phase(&supervisor, Phase::Starting(Waiting::Routes { absent: 1 })).await;
    assert_eq!(supervisor.admin().get("/ready").await.unwrap(), "LIVE\n");
    assert_eq!(get(supervisor.readiness_address(), "/ready").await.0, 503);
}

/// A listener whose routes never come: with no limit on the wait it never opens; with one Envoy
/// goes on without, and is not ready all the same.
#[tokio::test]
async fn routes_that_never_come_are_not_ready() {
    let Some(envoy) = envoy_binary() else { return };
    for (wait, waiting) in [
        ("0s", Waiting::Warming),
        ("0.2s", Waiting::Routes { absent: 1 }),
    ] {
        let root = directory();
        let files = Files::new(root.path());
        let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": wait});
        files.resources("lds", &[common::listener("one", &ads)]);
        let settings = common::settings(envoy.clone(), root.path());
        let supervisor = Prepared::with(&settings, |bootstrap| {
            let file = |name| postern_proxy::bootstrap::ConfigSource::file(&files.path(name));
            bootstrap.dynamic_resources.lds_config = file("lds");
            bootstrap.dynamic_resources.cds_config = file("cds");
        })
        .await
        .unwrap()
        .start()
        .unwrap();
        phase(&supervisor, Phase::Starting(waiting)).await;
        assert_eq!(get(supervisor.readiness_address(), "/ready").await.0, 503);
    }
}

#[tokio::test]
async fn without_a_control_plane_it_is_never_ready() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let supervisor = common::start(&common::settings(envoy, root.path()))
        .await
        .unwrap();
    phase(&supervisor, Phase::Starting(Waiting::Clusters)).await;
    // It tries, in vain, and again.
    eventually("two tries", || async {
        (stat(&supervisor, "cluster_manager.cds.update_failure").await? >= 2).then_some(())
    })
    .await;
    assert_eq!(
        *supervisor.phase().borrow(),
        Phase::Starting(Waiting::Clusters)
    );
    let (status, body) = get(supervisor.readiness_address(), "/ready").await;
    assert_eq!(status, 503);
    assert!(
        body.ends_with("waiting for clusters from the control plane\n"),
        "{body}"
    );
}

#[tokio::test]
async fn the_admin_interface_is_private_and_cannot_stop_envoy() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let files = Files::new(root.path());
    files.resources("lds", &[]);
    let supervisor = files.start(&common::settings(envoy, root.path())).await;
    phase(&supervisor, Phase::Ready).await;

    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(supervisor.state_dir()) & 0o7777, 0o700);
    assert_eq!(
        mode(&supervisor.state_dir().join("admin.sock")) & 0o7777,
        0o600
    );

    for path in [
        "/quitquitquit",
        "/quitquitquit?x",
        "/runtime_modify?a=b",
        "/logging?level=trace",
        "/cpuprofiler?enable=y",
        "/heapprofiler?enable=y",
        "/reset_counters",
        "/drain_listeners",
        "/drain_listeners?inboundonly",
        "/healthcheck/ok",
        "/",
        "/help",
    ] {
        let error = supervisor.admin().post(path).await.unwrap_err();
        assert!(
            matches!(error, AdminError::Status(status) if status == 403),
            "{path}: {error}"
        );
    }
    assert_eq!(supervisor.admin().get("/ready").await.unwrap(), "LIVE\n");
}

/// Two Envoys of a machine do not get in each other's way, and one directory has one.
#[tokio::test]
async fn a_state_directory_has_one_envoy() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let settings = common::settings(envoy, root.path());
    let first = common::start(&settings).await.unwrap();
    let error = common::start(&settings).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is in use by another supervisor"),
        "{error}"
    );
    let pid = first.envoy_pid();
    drop(first);
    // Dropping kills, so that the directory is free and nothing is left.
    eventually("Envoy's end", || async move {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
    let again = common::start(&settings).await.unwrap();
    phase(&again, Phase::Starting(Waiting::Clusters)).await;
}

/// Idle, a ready Envoy is left alone: readiness is not a poll of its admin interface.
#[tokio::test]
async fn readiness_costs_envoy_nothing() {
    let Some(envoy) = envoy_binary() else { return };
    let root = directory();
    let files = Files::new(root.path());
    files.resources("lds", &[]);
    let supervisor = files.start(&common::settings(envoy, root.path())).await;
    phase(&supervisor, Phase::Ready).await;
    let name = "http.admin.downstream_rq_total";
    let before = stat(&supervisor, name).await.unwrap();
    for _ in 0..20 {
        assert_eq!(get(supervisor.readiness_address(), "/ready").await.0, 200);
    }
    // Longer than the interval of looks while it starts.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stat(&supervisor, name).await.unwrap(), before + 1);
}
