//! The stand-in for the OpenShift Router on a real cluster, asked from outside of it.
#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod policies;
mod rights;
mod serving;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use postern_cluster::{Cluster, Gone, Options};
use postern_edge::{Mode, Router, Settings, WHO_IMAGE, certificate, install_routes, load_who};
use serde_json::{Value, json};

const DOMAIN: &str = "apps.example.test";

fn admin(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.kubectl(arguments).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

fn apply(cluster: &Cluster, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let arguments = ["apply", "--server-side", "-f", "-"];
    let output = cluster
        .kubectl_as(&cluster.kubeconfig(), &arguments, &list)
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(value) => return value,
            Err(now) => assert!(
                begun.elapsed() < Duration::from_secs(40),
                "never: {what}; at last: {now}"
            ),
        }
        std::thread::sleep(Duration::from_millis(150));
    }
}

fn route(namespace: &str, name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["to"] = json!({"kind": "Service", "name": "who", "weight": 100});
    json!({
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

/// What a router says of a Route: its host, and why it is not admitted, if it is not.
fn said(cluster: &Cluster, namespace: &str, name: &str, router: &str) -> Option<(String, String)> {
    let get = ["-n", namespace, "get", "route", name, "-o", "json"];
    let route: Value = serde_json::from_str(&admin(cluster, &get)).unwrap();
    let entries = route["status"]["ingress"].as_array()?;
    let own = entries.iter().find(|e| e["routerName"] == router)?;
    assert_eq!(
        own["routerCanonicalHostname"],
        format!("router-{router}.{DOMAIN}")
    );
    let conditions = own["conditions"].as_array()?;
    let admitted = conditions.iter().find(|c| c["type"] == "Admitted")?;
    let reason = admitted["reason"].as_str().unwrap_or_default();
    assert_eq!(
        admitted["status"] == "True",
        reason.is_empty(),
        "{admitted}"
    );
    let host = own["host"].as_str().unwrap_or_default();
    Some((host.to_owned(), reason.to_owned()))
}

fn expect(cluster: &Cluster, of: &str, router: &str, host: &str, reason: &str) {
    let (namespace, name) = of.split_once('/').unwrap();
    let wanted = Some((host.to_owned(), reason.to_owned()));
    eventually(&format!("{of} is {wanted:?}"), || {
        let now = said(cluster, namespace, name, router);
        if now == wanted {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
}

/// Backends in two namespaces, with a certificate for their Service's name.
fn workload(cluster: &Cluster, key: &str, certificate: &str) {
    load_who(cluster).unwrap();
    for namespace in ["team-a", "team-b"] {
        let meta = |name: &str| json!({"name": name, "namespace": namespace});
        apply(
            cluster,
            &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})],
        );
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta("who"), "spec": {
            "containers": [{
                "name": "who",
                "image": WHO_IMAGE,
                "args": ["serve", "-tls", "/tls"],
                "env": [{"name": "POD_NAME", "value": namespace}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
            }],
            "volumes": [{"name": "tls", "secret": {"secretName": "who"}}],
        }});
        pod["metadata"]["labels"] = json!({"app": "who"});
        let objects = [
            json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": meta("who"), "stringData": {"tls.crt": certificate, "tls.key": key}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("who"), "spec": {
                "selector": {"app": "who"},
                "ports": [
                    {"name": "clear", "port": 8080, "targetPort": 8080},
                    {"name": "tls", "port": 8443, "targetPort": 8443},
                ],
            }}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("other"), "spec": {
                "selector": {"app": "who"},
                "ports": [{"name": "tls", "port": 8443, "targetPort": 8443}],
            }}),
            pod,
        ];
        eventually("the namespace's account is there", || {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
            let arguments = ["apply", "--server-side", "-f", "-"];
            let output = cluster
                .kubectl_as(&cluster.kubeconfig(), &arguments, &list)
                .unwrap();
            if output.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        });
    }
    for namespace in ["team-a", "team-b"] {
        let wait = [
            "-n",
            namespace,
            "wait",
            "--for=condition=Ready",
            "pod/who",
            "--timeout=60s",
        ];
        admin(cluster, &wait);
    }
}

struct Stage<'a> {
    cluster: &'a Cluster,
    router: &'a Router<'a>,
    /// The authority of the router's certificate.
    router_ca: PathBuf,
    /// The authority of the backends' certificate: as a file, and as PEM.
    backend_ca: PathBuf,
    backend_pem: String,
}

impl<'a> Stage<'a> {
    fn new(cluster: &'a Cluster, router: &'a Router<'a>, backend_pem: &str) -> Self {
        let dir = cluster.state_dir();
        let stage = Stage {
            cluster,
            router,
            router_ca: dir.join("router-ca.pem"),
            backend_ca: dir.join("backend-ca.pem"),
            backend_pem: backend_pem.to_owned(),
        };
        fs::write(&stage.router_ca, router.ca()).unwrap();
        fs::write(&stage.backend_ca, backend_pem).unwrap();
        stage
    }

    fn http(&self) -> SocketAddr {
        self.router.http()
    }

    fn https(&self) -> SocketAddr {
        self.router.https()
    }
}

#[test]
fn routes_are_decided_on_and_served() {
    if !nix::unistd::geteuid().is_root() {
        println!("not run: the stand-in for the OpenShift Router on a real cluster: needs root");
        return;
    }
    if std::env::var("POSTERN_E2E").is_ok_and(|wish| wish == "off") {
        println!(
            "not run: the stand-in for the OpenShift Router on a real cluster: POSTERN_E2E=off"
        );
        return;
    }
    let name = format!("te-{}", std::process::id());
    let _gone = Gone(name.clone());
    let cluster = Cluster::up(&name, &Options::default()).unwrap();
    let begun = Instant::now();
    let told = |what: &str| eprintln!("[{:5.1} s] {what}", begun.elapsed().as_secs_f64());
    install_routes(&cluster).unwrap();
    rights::hosts_are_for_those_who_may(&cluster);
    told("rights agree with library-go");

    let names = ["who.team-a.svc", "who.team-b.svc", "pass.example.test"];
    let [backend_pem, certificate, key] = certificate(&names).unwrap();
    workload(&cluster, &key, &certificate);
    let settings = Settings {
        service_ca: Some(backend_pem.clone()),
        ..Settings::default()
    };
    let router = Router::start_with(&cluster, settings).unwrap();
    told("the router serves");
    let stage = Stage::new(&cluster, &router, &backend_pem);
    serving::all(&stage);
    told("all terminations serve");
    serving::refusals(&stage);
    told("refusals have their reasons");
    serving::reloads_lose_nothing(&stage);
    told("reloads lose nothing");
    policies::tell_routers_apart(&stage);
    told("policies let the router in, and no neighbour");

    // The other way: on the node's ports, with wildcards.
    let settings = Settings {
        mode: Mode::HostNetwork,
        name: "host".into(),
        wildcards: true,
        ..Settings::default()
    };
    router.stop().unwrap();
    let router = Router::start_with(&cluster, settings).unwrap();
    let stage = Stage::new(&cluster, &router, &backend_pem);
    assert_eq!(stage.https().port(), 443);
    serving::wildcards(&stage);
    told("wildcards are served on the host's network");
    policies::tell_routers_apart(&stage);
    cluster.down().unwrap();
}
