//! A tenant with the stock role `edit` in its namespace, and nothing else.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use postern_api::names;
use postern_e2e::docs::shown;
use postern_e2e::http::get;
use postern_e2e::images;
use postern_e2e::olm::Version;
use postern_e2e::platform::{apply, give_tenants, kubectl, value};
use postern_e2e::tools::repository;
use postern_edge::{Ask, Clients, Place};
use serde_json::{Value, json};

use crate::{World, csv};

/// The page whose Service and HTTPRoute the tenant applies as they stand there. The bundle's sample
/// TenantGrant gives its host to the namespace.
const PAGE: &str = "first-gateway";
const HOST: &str = "www.team-a.example";
const SECOND: &str = "second.team-a.example";
const TEAM: &str = "team-a";
/// The name of the example's GatewayInstance.
const INSTANCE: &str = "default";

/// The user.
pub struct Tenant {
    kubeconfig: PathBuf,
    /// Of the HTTPS listener.
    certificate: PathBuf,
}

impl Tenant {
    /// The platform makes the namespace; its user makes a backend, its Service as the page shows it, a
    /// certificate, and the GatewayInstance of the bundle's `alm-examples`.
    pub fn come(world: &World<'_>) -> Result<Tenant> {
        let admin = world.cluster.kubeconfig();
        apply(
            world.cluster,
            &admin,
            &repository().join("examples/platform"),
        )?;
        let tenant = Tenant {
            kubeconfig: world.cluster.kubeconfig_for("ann", &[TEAM])?,
            certificate: world.cluster.state_dir().join("web-cert.crt"),
        };
        world.wait("OLM's roles for our kinds are part of `edit`", || {
            let ask = [
                "-n",
                TEAM,
                "auth",
                "can-i",
                "create",
                "gatewayinstances.postern.dev",
            ];
            Ok(tenant.may(world, &ask, "").is_ok())
        })?;
        // For the Gateway API's kinds OpenShift does it.
        give_tenants(world.cluster, "openshift")?;
        let grants = ["auth", "can-i", "create", "tenantgrants.postern.dev"];
        ensure!(
            tenant.may(world, &grants, "").is_err(),
            "a tenant may write grants"
        );
        tenant.apply(world, &backend())?;
        tenant.apply(world, &shown(PAGE, "Service")?)?;
        let pair = rcgen::generate_simple_self_signed(vec!["*.team-a.example".to_owned()])?;
        fs::write(&tenant.certificate, pair.cert.pem())?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "web-cert", "namespace": TEAM},
            "stringData": {"tls.crt": pair.cert.pem(), "tls.key": pair.signing_key.serialize_pem()},
        });
        tenant.apply(world, &secret)?;
        let mut example = example(world)?;
        example["metadata"]["namespace"] = TEAM.into();
        tenant.apply(world, &example)?;
        Ok(tenant)
    }

    /// The instance is accepted, and says what is missing.
    pub fn is_told_that_the_gateway_api_is_absent(&self, world: &World<'_>) -> Result<()> {
        let mut said = String::new();
        world
            .wait("the instance says that the Gateway API is absent", || {
                said = self.condition(world, "Ready")?;
                Ok(said.starts_with("False|NotServed|") && said.contains("Gateway API"))
            })
            .with_context(|| said.clone())?;
        // Nothing that it does fails over and over.
        ensure!(
            self.condition(world, "Accepted")?.starts_with("True|"),
            "the instance is refused"
        );
        Ok(())
    }

    /// Makes the page's route and waits for the first answer. Returns where the gateway is.
    pub fn is_served(&self, world: &World<'_>) -> Result<SocketAddr> {
        let route = shown(PAGE, "HTTPRoute")?;
        world.wait("the tenant may make routes", || {
            Ok(self.apply(world, &route).is_ok())
        })?;
        let gateways = [
            "-n",
            TEAM,
            "auth",
            "can-i",
            "create",
            "gateways.gateway.networking.k8s.io",
        ];
        ensure!(
            self.may(world, &gateways, "").is_err(),
            "a tenant may make Gateways: not so on OpenShift"
        );
        let service = format!("service/{}", names::gateway_service(INSTANCE));
        let mut at = String::new();
        world.wait("the gateway has an address", || {
            at = value(world.cluster, TEAM, &service, "{.spec.clusterIP}")?;
            Ok(!at.is_empty())
        })?;
        let at = SocketAddr::new(at.parse()?, 80);
        self.answers(world, at, HOST)?;
        world.wait("the instance says that it is ready", || {
            Ok(self.condition(world, "Ready")?.starts_with("True|"))
        })?;
        Ok(at)
    }

    /// Clients of both listeners.
    pub fn clients(&self, world: &World<'_>, at: SocketAddr) -> Result<Clients> {
        let (http, https) = (format!("http://{HOST}/"), format!("https://{HOST}/"));
        let mut secure = Ask::new(&https, SocketAddr::new(at.ip(), 443));
        secure.ca = Some(&self.certificate);
        let targets = [Ask::new(&http, at).into(), secure.into()];
        Clients::start(Place::Node(world.cluster), &targets)
    }

    /// Another route is served too.
    pub fn changes_are_served(&self, world: &World<'_>, at: SocketAddr) -> Result<()> {
        let mut route = shown(PAGE, "HTTPRoute")?;
        route["metadata"]["name"] = "second".into();
        route["spec"]["hostnames"] = json!([SECOND]);
        self.apply(world, &route)?;
        self.answers(world, at, SECOND)
    }

    /// Waits until control plane and Envoy are of these images, and no others are left.
    pub fn runs_images_of(&self, world: &World<'_>, version: &Version) -> Result<()> {
        let wanted = ["controlplane", "proxy"].map(|target| version.image(target));
        let what = format!("everything in {TEAM} is of {}", version.number);
        world.wait(&what, || {
            let selector = format!("postern.dev/instance={INSTANCE}");
            let pods = world.json(&["-n", TEAM, "pods", "-l", &selector])?;
            let pods = pods["items"].as_array().context("no list")?;
            let is_new = |pod: &Value| {
                let containers = pod["spec"]["containers"].as_array();
                let mut images = containers.into_iter().flatten().map(|one| &one["image"]);
                let ready = pod["status"]["containerStatuses"].as_array();
                images.all(|image| wanted.iter().any(|one| image == one))
                    && ready.is_some_and(|all| all.iter().all(|one| one["ready"] == true))
            };
            Ok(pods.len() == 2 && pods.iter().all(is_new))
        })
    }

    fn answers(&self, world: &World<'_>, at: SocketAddr, host: &str) -> Result<()> {
        world.wait(&format!("{host} is served"), || {
            let answer = world.cluster.inside(|| get(at, host, "/"))?;
            Ok(answer
                .is_ok_and(|(status, body)| status == 200 && body.contains("\"backend\":\"shop\"")))
        })
    }

    fn condition(&self, world: &World<'_>, kind: &str) -> Result<String> {
        let path = format!(
            "jsonpath={{range .status.conditions[?(@.type==\"{kind}\")]}}{{.status}}|{{.reason}}|{{.message}}{{end}}"
        );
        let get = ["-n", TEAM, "get", "gatewayinstance", INSTANCE, "-o", &path];
        self.may(world, &get, "")
    }

    fn apply(&self, world: &World<'_>, object: &Value) -> Result<()> {
        let arguments = ["apply", "--server-side", "-f", "-"];
        self.may(world, &arguments, &object.to_string()).map(|_| ())
    }

    fn may(&self, world: &World<'_>, arguments: &[&str], input: &str) -> Result<String> {
        kubectl(world.cluster, &self.kubeconfig, arguments, input)
    }
}

/// The pod behind the page's Service.
fn backend() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "shop", "namespace": TEAM, "labels": {"app": "shop"}},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65_532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "echo", "image": images::reference("echo"), "imagePullPolicy": "Never",
                "args": ["--name", "shop", "--listen", "0.0.0.0:8080"],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

/// The GatewayInstance that the console offers as an example.
fn example(world: &World<'_>) -> Result<Value> {
    let csv = csv(world, &world.before)?;
    let examples = csv["metadata"]["annotations"]["alm-examples"]
        .as_str()
        .context("no alm-examples")?;
    let examples: Vec<Value> = serde_json::from_str(examples)?;
    let is_instance = |example: &Value| example["kind"] == "GatewayInstance";
    examples
        .into_iter()
        .find(is_instance)
        .context("no example of a GatewayInstance")
}
