//! An API server with a Gateway, what an operator would say of it, and routes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use postern_api::entitlement::{
    CONTRACT_VERSION, EntitledGateway, InstanceRef, ListenerConsent, ObjectRef, PortAllocation,
    ShardRef, WatchGrant,
};
use postern_api::names::InstanceNames;
use postern_api::{CONTROLLER_NAME, Entitlement, EntitlementStatus, GATEWAY_GROUP};
use postern_cluster::{Channel, Cluster, Gone, Options};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Where everything stands.
pub const NAMESPACE: &str = "bench";
/// The instance.
pub const INSTANCE: &str = "default";
/// A Secret that is watched by name.
pub const SECRET: &str = "certificate";
const GATEWAY: &str = "gateway";
/// Requests at the same time.
const WRITERS: usize = 16;
/// Within which the control plane must have written all statuses.
const PATIENCE: Duration = Duration::from_secs(180);

/// A light cluster.
pub struct World {
    cluster: Cluster,
    client: Client,
    _gone: Gone,
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

impl World {
    /// A cluster with a Gateway and its Entitlement, and no route.
    pub async fn up() -> Result<World> {
        let name = format!("bench-{}", std::process::id());
        let gone = Gone(name.clone());
        let options = Options {
            light: true,
            quiet: true,
            ..Options::default()
        };
        let cluster = Cluster::up(&name, &options)?;
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let world = World {
            client: Client::try_from(config)?,
            cluster,
            _gone: gone,
        };
        world.prepare().await?;
        Ok(world)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.cluster.kubeconfig()
    }

    /// Where a program's output goes.
    pub fn log(&self, program: &str) -> PathBuf {
        self.cluster.state_dir().join(format!("logs/{program}.log"))
    }

    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), NAMESPACE, resource)
    }

    fn routes(&self) -> Api<DynamicObject> {
        self.api(&resource(GATEWAY_GROUP, "v1", "HTTPRoute", "httproutes"))
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        let output = self.cluster.kubectl(arguments)?;
        ensure!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    async fn prepare(&self) -> Result<()> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
        for folder in [self.cluster.gateway_api_crds(Channel::Standard), ours] {
            let folder = folder.to_str().context("a path that is not UTF-8")?;
            self.kubectl(&["apply", "--server-side", "-f", folder])?;
        }
        self.kubectl(&[
            "wait",
            "crd",
            "--all",
            "--for=condition=Established",
            "--timeout=60s",
        ])?;
        self.kubectl(&["create", "namespace", NAMESPACE])?;
        let literal = "--from-literal=a=b";
        self.kubectl(&[
            "create", "secret", "generic", "-n", NAMESPACE, SECRET, literal,
        ])?;

        let gateways = resource(GATEWAY_GROUP, "v1", "Gateway", "gateways");
        let gateway = object(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": GATEWAY},
            "spec": {
                "gatewayClassName": "postern",
                "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            },
        }))?;
        let made = self
            .api(&gateways)
            .create(&PostParams::default(), &gateway)
            .await?;
        let uid = made.metadata.uid.context("a Gateway without a UID")?;

        let api: Api<Entitlement> = Api::namespaced(self.client.clone(), NAMESPACE);
        let name = InstanceNames::new(INSTANCE).entitlement();
        let mut entitlement = Entitlement::default();
        entitlement.metadata.name = Some(name.clone());
        api.create(&PostParams::default(), &entitlement).await?;
        let status = json!({"status": contract(&uid)});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        Ok(())
    }

    /// Makes it so many routes, each with a Service and endpoints of its own.
    pub async fn grow(&self, routes: usize) -> Result<()> {
        let there = self.routes().list_metadata(&ListParams::default()).await?;
        let first = there.items.len();
        let services = self.api(&resource("", "v1", "Service", "services"));
        let slices = self.api(&resource(
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            "endpointslices",
        ));
        let all = self.routes();
        futures::stream::iter(first..routes)
            .map(|number| {
                let (services, slices, all) = (&services, &slices, &all);
                async move {
                    let parameters = PostParams::default();
                    services.create(&parameters, &service(number)?).await?;
                    slices.create(&parameters, &slice(number)?).await?;
                    all.create(&parameters, &route(number)?).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(WRITERS)
            .try_collect()
            .await
    }

    /// Waits until all of so many routes have their status. The size of one as it is served, in
    /// bytes of JSON without `managedFields`.
    pub async fn attached(&self, routes: usize) -> Result<Option<usize>> {
        let until = Instant::now() + PATIENCE;
        loop {
            let list = self.routes().list(&ListParams::default()).await?;
            let done = list.items.iter().filter(|route| attached(route)).count();
            if done == routes && list.items.len() == routes {
                let Some(mut route) = list.items.into_iter().next() else {
                    return Ok(None);
                };
                route.metadata.managed_fields = None;
                return Ok(Some(serde_json::to_vec(&route)?.len()));
            }
            if Instant::now() > until {
                bail!("{done} of {routes} routes have their status");
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Accepted and resolved, by us and as it is now.
fn attached(route: &DynamicObject) -> bool {
    let parents = route.data["status"]["parents"].as_array();
    parents.into_iter().flatten().any(|parent| {
        let conditions = parent["conditions"].as_array();
        let holds = |kind: &str| {
            conditions.into_iter().flatten().any(|condition| {
                condition["type"] == kind
                    && condition["status"] == "True"
                    && condition["observedGeneration"].as_i64() == route.metadata.generation
            })
        };
        parent["controllerName"] == CONTROLLER_NAME && holds("Accepted") && holds("ResolvedRefs")
    })
}

/// What an operator would say.
fn contract(gateway_uid: &str) -> EntitlementStatus {
    let kinds = [
        (GATEWAY_GROUP, "Gateway"),
        (GATEWAY_GROUP, "HTTPRoute"),
        ("", "Service"),
        ("discovery.k8s.io", "EndpointSlice"),
    ];
    EntitlementStatus {
        contract_version: CONTRACT_VERSION,
        instance: InstanceRef {
            namespace: NAMESPACE.into(),
            name: INSTANCE.into(),
            // Of an object that nothing here looks up.
            uid: gateway_uid.into(),
            generation: 1,
        },
        trust_domain: "cluster.local".into(),
        controller_name: CONTROLLER_NAME.into(),
        gateway_classes: vec!["postern".into()],
        gateways: vec![EntitledGateway {
            namespace: NAMESPACE.into(),
            name: GATEWAY.into(),
            uid: gateway_uid.into(),
            shard: "default".into(),
            ports: vec![PortAllocation {
                port: 80,
                container_port: 10_080,
                ..PortAllocation::default()
            }],
            listeners: vec![ListenerConsent {
                name: "http".into(),
                route_namespaces: vec![NAMESPACE.into()],
            }],
            service: GATEWAY.into(),
            ..EntitledGateway::default()
        }],
        shards: vec![ShardRef {
            name: "default".into(),
        }],
        watches: kinds
            .map(|(group, kind)| WatchGrant {
                group: group.into(),
                kind: kind.into(),
                namespace: NAMESPACE.into(),
            })
            .into(),
        objects: vec![ObjectRef {
            group: String::new(),
            kind: "Secret".into(),
            namespace: NAMESPACE.into(),
            name: SECRET.into(),
        }],
        hostnames: vec!["*".into()],
        ..EntitlementStatus::default()
    }
}

fn object(value: Value) -> Result<DynamicObject> {
    serde_json::from_value(value).context("no object")
}

fn service(number: usize) -> Result<DynamicObject> {
    let name = format!("service-{number}");
    object(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        },
    }))
}

fn slice(number: usize) -> Result<DynamicObject> {
    let service = format!("service-{number}");
    object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-a1b2c"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{
            "addresses": [format!("10.1.{}.{}", number / 250, number % 250 + 1)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
        }],
    }))
}

/// One rule, two backends: its own Service and that of the route before it.
fn route(number: usize) -> Result<DynamicObject> {
    let backend = |number: usize| json!({"name": format!("service-{number}"), "port": 80});
    object(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": format!("route-{number}")},
        "spec": {
            "parentRefs": [{"name": GATEWAY}],
            "hostnames": [format!("host-{number}.bench.example")],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": format!("/path-{number}")}}],
                "backendRefs": [backend(number), backend(number.saturating_sub(1))],
            }],
        },
    }))
}
