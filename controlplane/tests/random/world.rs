//! The way from files to a real Envoy, as `serve --from` goes it, and a client in front.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use postern_api::EntitlementStatus;
use postern_consent::{Facts, consent};
use postern_controlplane::engine::{Counted, Engine};
use postern_controlplane::envoys::Envoys;
use postern_envoy::Options;
use postern_model::{Origin, Proxy, Text};
use postern_refs::status::Statuses;
use postern_refs::{Key, Snapshot, instance};
use postern_translate::{Memo, Settings, translate};
use postern_watch::dir::{self, FileProblem};
use postern_xds::server::{self, Metrics, serve, server_config};
use rcgen::CertificateParams;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::client::Client;
use crate::evaluate::{Answer, Request};
use crate::pki::{Ca, Signed};
use crate::real::{Envoy, backend, until};

const IDENTITY: &str = "spiffe://postern.local/ns/team/instance/web/shard/default";
/// Hosts that lead to each of the tables, with the port of its listener.
const TABLES: [(u16, Option<&str>, &str); 4] = [
    (80, None, "canary.invalid"),
    (8080, None, "canary.invalid"),
    (443, Some("a.shop.example"), "a.shop.example"),
    (443, Some("canary.shop.example"), "canary.shop.example"),
];

pub struct World {
    directory: tempfile::TempDir,
    engine: Engine,
    metrics: Arc<Metrics>,
    envoy: Envoy,
    address: IpAddr,
    client: Client,
    /// What the Envoy is to do now.
    pub proxy: Proxy,
    round: usize,
    /// The server ends with it.
    _runtime: Runtime,
}

impl World {
    /// One Gateway with four listeners of HTTP on two ports and two of HTTPS on a third.
    pub fn start(binary: &Path) -> World {
        let directory = tempfile::tempdir().unwrap();
        let web = Ca::new("web");
        write_base(directory.path(), &web);
        // A loopback address that no other test has: container ports are the same everywhere.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = IpAddr::from([127, 128 | (high & 63), low, 1]);
        let envoys = Arc::new(Envoys::new(postern_api::TRUST_DOMAIN, "team", "web"));
        let options = Options {
            bind: address,
            allow_loopback: true,
        };
        let mut engine = Engine::new(SETTINGS, options, Counted::All, envoys.clone());
        let (snapshot, problems) = read(directory.path());
        assert_eq!(problems, [] as [FileProblem; 0]);
        let entitlement = entitlement(&snapshot);
        engine.update(&snapshot, &entitlement);

        let runtime = Runtime::new().unwrap();
        let ca = Ca::new("xds");
        let Signed { cert, key } = ca.server();
        let config = server_config(&[ca.pem()], cert.as_bytes(), key.as_bytes()).unwrap();
        let metrics: Arc<Metrics> = Arc::default();
        let options = server::Options {
            metrics: metrics.clone(),
            ..server::Options::default()
        };
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .unwrap();
        let xds = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let (_sender, tls) = watch::channel(config);
            serve(listener, tls, envoys, options, std::future::pending()).await
        });
        World {
            engine,
            metrics,
            envoy: Envoy::start(binary, &ca, &ca.client(&[IDENTITY]), xds),
            address,
            client: Client::new(&web.pem()),
            proxy: Proxy::default(),
            round: 0,
            directory,
            _runtime: runtime,
        }
    }

    /// Writes a file in the place of the one that was there.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(format!("{name}.json")), text).unwrap();
    }

    /// Reads all files, hands on what they come to, and waits until Envoy serves it.
    pub fn apply(&mut self) -> Outcome {
        self.round += 1;
        let canary = CANARY.replace("@ROUND@", &self.round.to_string());
        fs::write(self.directory.path().join("canary.yaml"), canary).unwrap();
        let (snapshot, problems) = read(self.directory.path());
        let entitlement = entitlement(&snapshot);
        self.engine.update(&snapshot, &entitlement);
        // Anew and as a whole, so that what is kept from pass to pass is looked at too.
        let translation = translate(&snapshot, &entitlement, &mut Memo::new(SETTINGS));
        self.proxy = translation.proxies["default"].clone();
        for (port, server_name, host) in TABLES {
            let request = Request {
                port,
                server_name: server_name.map(str::to_owned),
                method: "GET".to_owned(),
                target: format!("/canary-{}", self.round),
                hosts: vec![host.to_owned()],
                headers: Vec::new(),
            };
            until("newest table", || match self.send(&request) {
                Ok(Answer::Redirect(303, _)) => Some(()),
                _ => None,
            });
        }
        Outcome {
            undecodable: problems.len(),
            statuses: self.engine.statuses(),
            refused: self.engine.refused(),
        }
    }

    /// Sends a request; the error says what came instead of an answer.
    pub fn send(&self, request: &Request) -> Result<Answer, String> {
        let mut listeners = self.proxy.listeners.values();
        let listener = listeners.find(|listener| listener.public_port == request.port);
        let to = SocketAddr::new(self.address, listener.unwrap().port);
        self.client.send(to, request)
    }

    /// Neither Envoy nor the server has counted a refusal or a failure, on any subscription.
    pub fn assert_nothing_refused(&self) {
        for (counter, kinds) in [
            ("update_rejected", &["cds", "lds", "rds", "sds"][..]),
            ("update_failure", &["cds", "lds", "rds", "sds"]),
        ] {
            let stats = self.envoy.stats(counter);
            for kind in kinds {
                let of_kind = |name: &str| name.split('.').any(|part| part == *kind);
                assert!(
                    stats.iter().any(|(name, _)| of_kind(name)),
                    "no {counter} of {kind} in {stats:?}"
                );
            }
            let bad: Vec<_> = stats.iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!(bad, [] as [&(String, u64); 0]);
        }
        assert_eq!(self.metrics.refused_total(), 0);
        assert!(self.metrics.acknowledged_total() > 0);
    }
}

/// What was said of a round's files.
pub struct Outcome {
    pub undecodable: usize,
    pub statuses: Statuses,
    /// What the encoder would not send: the translator should have said so.
    pub refused: Vec<(Origin, Text)>,
}

const SETTINGS: Settings = Settings {
    allow_loopback: true,
};

fn read(directory: &Path) -> (Snapshot, Vec<FileProblem>) {
    let (snapshot, problems) = dir::read(directory);
    (instance::with_gateways((*snapshot).clone()), problems)
}

fn entitlement(snapshot: &Snapshot) -> EntitlementStatus {
    let facts = Facts {
        classes: [postern_api::GATEWAY_CLASS.into()].into(),
        ..Facts::default()
    };
    let found = consent(snapshot, &Key::new("team", "web"), None, &facts);
    assert_eq!(found.refusal, None);
    found.entitlement
}

/// What does not change: grant, instance, certificate, backends.
fn write_base(directory: &Path, web: &Ca) {
    let names = ["*.shop.example".to_owned(), "a.shop.example".to_owned()];
    let pair = web.sign(CertificateParams::new(names).unwrap());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "web-tls", "namespace": "team"},
        "stringData": {"tls.crt": pair.cert, "tls.key": pair.key},
    });
    let mut text = format!("{BASE}---\n{secret}\n");
    for name in ["a", "b", "c"] {
        text += &SERVICE
            .replace("@NAME@", name)
            .replace("@PORT@", &backend(name).to_string());
    }
    fs::write(directory.join("base.yaml"), text).unwrap();
}

const BASE: &str = r#"
apiVersion: postern.dev/v1alpha1
kind: TenantGrant
metadata: {name: team}
spec:
  namespaces: {names: [team]}
  hostnames: ["*"]
  exposures: [ClusterIP]
---
apiVersion: postern.dev/v1alpha1
kind: GatewayInstance
metadata: {name: web, namespace: team}
spec:
  listeners:
    - {name: all, port: 80, protocol: HTTP}
    - {name: wild, port: 80, protocol: HTTP, hostname: "*.shop.example"}
    - {name: exact, port: 80, protocol: HTTP, hostname: a.shop.example}
    - {name: other, port: 8080, protocol: HTTP}
    - {name: tls, port: 443, protocol: HTTPS, hostname: a.shop.example, tls: {certificateRefs: [{name: web-tls}]}}
    - {name: tls-wild, port: 443, protocol: HTTPS, hostname: "*.shop.example", tls: {certificateRefs: [{name: web-tls}]}}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: team}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: external, namespace: team}
spec: {type: ExternalName, externalName: evil.example, ports: [{name: http, port: 80}]}
"#;

const SERVICE: &str = r"---
apiVersion: v1
kind: Service
metadata: {name: @NAME@, namespace: team}
spec: {ports: [{name: http, port: 80, targetPort: @PORT@}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: @NAME@-1, namespace: team, labels: {kubernetes.io/service-name: @NAME@}}
addressType: IPv4
ports: [{name: http, port: @PORT@, protocol: TCP}]
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
";

/// Shows at each table which round it is of.
const CANARY: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary, namespace: team}
spec:
  parentRefs: [{name: web}]
  hostnames: [canary.invalid, a.shop.example, canary.shop.example]
  rules:
    - matches: [{path: {type: Exact, value: /canary-@ROUND@}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 303}}]
";
