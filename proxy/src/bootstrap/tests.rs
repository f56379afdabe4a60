//! The bootstrap against a golden file, and against Envoy itself.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::envoy;

fn identity() -> Identity {
    "spiffe://cluster.local/ns/team-a/instance/default/shard/main"
        .parse()
        .unwrap()
}

fn bootstrap(directory: &Path, xds: &str, max_heap: Option<u64>) -> Bootstrap {
    Bootstrap::new(&Inputs {
        identity: &identity(),
        node_id: "pod-1",
        xds: &xds.parse().unwrap(),
        xds_server_name: None,
        admin_socket: &directory.join("admin.sock"),
        secrets: SecretPaths {
            certificate: &directory.join("sds-certificate.json"),
            validation: &directory.join("sds-validation.json"),
        },
        max_heap,
        max_connections: 10_000,
    })
}

/// Compares with a file beside this one; `UPDATE_GOLDEN=1` writes it.
fn golden(name: &str, actual: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/bootstrap/golden")
        .join(name);
    let actual = format!("{}\n", String::from_utf8(actual.to_vec()).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(
        expected == actual,
        "{} differs; run with UPDATE_GOLDEN=1 and look at the difference. Now:\n{actual}",
        path.display()
    );
}

#[test]
fn goldens() {
    let directory = Path::new("/run/postern/proxy");
    golden(
        "full.json",
        &bootstrap(directory, "controlplane.team-a.svc:18000", Some(256 << 20))
            .to_json()
            .unwrap(),
    );
    let secrets = SecretFiles::new(Path::new("/etc/postern/tls"), &identity());
    golden(
        "sds-certificate.json",
        &secrets.certificate.to_json().unwrap(),
    );
    golden(
        "sds-validation.json",
        &secrets.validation.to_json().unwrap(),
    );
}

fn value(bootstrap: &Bootstrap) -> serde_json::Value {
    serde_json::from_slice(&bootstrap.to_json().unwrap()).unwrap()
}

#[test]
fn an_address_is_not_resolved_and_has_no_server_name() {
    let directory = Path::new("/s");
    let by_address = value(&bootstrap(directory, "[fd00::1]:18000", None));
    let cluster = &by_address["static_resources"]["clusters"][0];
    assert_eq!(cluster["type"], "STATIC");
    let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    assert_eq!(endpoint["address"]["socket_address"]["address"], "fd00::1");
    assert!(
        cluster["transport_socket"]["typed_config"]
            .get("sni")
            .is_none()
    );

    let by_name = value(&bootstrap(directory, "cp.svc:18000", None));
    let cluster = &by_name["static_resources"]["clusters"][0];
    assert_eq!(cluster["type"], "STRICT_DNS");
    assert_eq!(cluster["transport_socket"]["typed_config"]["sni"], "cp.svc");
}

#[test]
fn the_server_must_be_the_control_plane_of_this_instance() {
    let secrets = SecretFiles::new(Path::new("/tls"), &identity());
    let file: serde_json::Value =
        serde_json::from_slice(&secrets.validation.to_json().unwrap()).unwrap();
    let context = &file["resources"][0]["validation_context"];
    assert_eq!(
        context["match_typed_subject_alt_names"],
        serde_json::json!([{
            "san_type": "URI",
            "matcher": {"exact": "spiffe://cluster.local/ns/team-a/instance/default/controlplane"},
        }])
    );
}

#[test]
fn the_admin_interface_is_a_socket_and_cannot_stop_or_change_envoy() {
    let json = value(&bootstrap(Path::new("/s"), "10.0.0.1:1", None));
    assert_eq!(
        json["admin"]["address"],
        serde_json::json!({"pipe": {"path": "/s/admin.sock", "mode": 0o600}})
    );
    let allowed = serde_json::to_string(&json["admin"]["allow_paths"]).unwrap();
    for never in [
        "quitquitquit",
        "runtime_modify",
        "logging",
        "cpuprofiler",
        "heapprofiler",
        "reset",
    ] {
        assert!(!allowed.contains(never), "{never}");
    }
}

#[test]
fn without_a_heap_limit_there_is_no_heap_monitor() {
    let json = value(&bootstrap(Path::new("/s"), "10.0.0.1:1", None));
    let overload = &json["overload_manager"];
    assert!(overload.get("actions").is_none());
    assert_eq!(overload["resource_monitors"].as_array().unwrap().len(), 1);
}

#[test]
fn envoy_accepts_it() {
    let Some(envoy) = std::env::var_os("POSTERN_ENVOY")
        .map(Into::into)
        .or_else(envoy::find)
    else {
        println!("not run: no Envoy binary");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.test".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::write(path.join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(path.join("ca.crt"), certificate.pem()).unwrap();
    std::fs::write(path.join("tls.key"), key.serialize_pem()).unwrap();
    let secrets = SecretFiles::new(path, &identity());
    for (name, file) in [
        ("sds-certificate.json", &secrets.certificate),
        ("sds-validation.json", &secrets.validation),
    ] {
        std::fs::write(path.join(name), file.to_json().unwrap()).unwrap();
    }
    for (xds, heap) in [
        ("127.0.0.1:18000", None),
        ("[::1]:18000", Some(64 << 20)),
        ("localhost:18000", Some(64 << 20)),
    ] {
        let file = path.join("bootstrap.json");
        std::fs::write(&file, bootstrap(path, xds, heap).to_json().unwrap()).unwrap();
        let output = Command::new(&envoy)
            .args(["--mode", "validate", "-c"])
            .arg(&file)
            .args(["--log-level", "warning"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{xds}: {said}");
        // Deprecated fields, unknown runtime guards and the like.
        assert_eq!(said, "", "{xds}");
    }
}
