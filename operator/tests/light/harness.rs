//! A light cluster, the operator in this process under its own rights, and ways to look.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject,
};
use kube::api::{ApiResource, DynamicObject, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use postern_cluster::{Channel, Cluster, Options};
use postern_operator::run::{RunArgs, run_on};
use postern_stamp::rights;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The user that the operator acts as: the ServiceAccount that it gives rights to.
pub const USER: &str = "system:serviceaccount:postern:postern-operator";

/// A cluster that goes away with this value.
pub struct World {
    name: String,
    cluster: Cluster,
    /// The administrator's client.
    pub admin: Client,
    operator: Option<Operator>,
}

struct Operator {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    run: RunArgs,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = Cluster::remove(&self.name) {
            eprintln!("cluster {} was not removed: {error:#}", self.name);
        }
    }
}

async fn config(kubeconfig: &Path) -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .expect("a config")
}

/// Where the API server keeps a kind.
pub fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// Where the API server keeps the kinds that tests look at.
pub fn kind(kind: &str) -> ApiResource {
    let (api_version, plural) = match kind {
        "ServiceAccount" => ("v1", "serviceaccounts"),
        "Service" => ("v1", "services"),
        "ConfigMap" => ("v1", "configmaps"),
        "Role" => ("rbac.authorization.k8s.io/v1", "roles"),
        "RoleBinding" => ("rbac.authorization.k8s.io/v1", "rolebindings"),
        "Deployment" => ("apps/v1", "deployments"),
        "NetworkPolicy" => ("networking.k8s.io/v1", "networkpolicies"),
        "PodDisruptionBudget" => ("policy/v1", "poddisruptionbudgets"),
        "GatewayClass" => ("gateway.networking.k8s.io/v1", "gatewayclasses"),
        "Gateway" => ("gateway.networking.k8s.io/v1", "gateways"),
        "HTTPRoute" => ("gateway.networking.k8s.io/v1", "httproutes"),
        "ReferenceGrant" => ("gateway.networking.k8s.io/v1beta1", "referencegrants"),
        "GatewayInstance" => ("postern.dev/v1alpha1", "gatewayinstances"),
        "TenantGrant" => ("postern.dev/v1alpha1", "tenantgrants"),
        "Entitlement" => ("postern.dev/v1alpha1", "entitlements"),
        "Namespace" => ("v1", "namespaces"),
        "Event" => ("events.k8s.io/v1", "events"),
        "Route" => ("route.openshift.io/v1", "routes"),
        other => panic!("no test looks at {other}"),
    };
    resource(api_version, kind, plural)
}

/// The kinds that the operator stamps, and the Entitlement.
pub const STAMPED: [&str; 9] = [
    "NetworkPolicy",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "Service",
    "PodDisruptionBudget",
    "Deployment",
    "Gateway",
    "Entitlement",
];

/// Asks again until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl World {
    /// A cluster with all CRDs, the operator's rights, and no operator yet.
    pub async fn up() -> World {
        // RUST_LOG=info shows what the operator does.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let logs = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer();
        logs.init();
        let name = format!("operator-{}", std::process::id());
        let options = Options {
            light: true,
            ..Options::default()
        };
        let cluster = Cluster::up(&name, &options).expect("a light cluster");
        let admin = config(&cluster.kubeconfig()).await;
        let admin = Client::try_from(admin).expect("a client");
        let world = World {
            name,
            cluster,
            admin,
            operator: None,
        };
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        let theirs = world.cluster.gateway_api_crds(Channel::Standard);
        for folder in [&ours, &theirs] {
            let folder = folder.display().to_string();
            world.kubectl(&["apply", "--server-side", "-f", &folder]);
        }
        world.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]);
        world.grant_rights().await;
        world
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.cluster.kubectl(arguments).expect("kubectl");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Gives the operator's user just what the bundle asks for.
    async fn grant_rights(&self) {
        let meta = |name: &str| ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        };
        let roles: Api<ClusterRole> = Api::all(self.admin.clone());
        let bindings: Api<ClusterRoleBinding> = Api::all(self.admin.clone());
        let mut all = rights::static_cluster_roles();
        all.push((USER, rights::operator_cluster_rules()));
        for (name, rules) in all {
            let role = ClusterRole {
                metadata: meta(name),
                rules: Some(rules),
                aggregation_rule: None,
            };
            roles
                .create(&PostParams::default(), &role)
                .await
                .expect("a role");
        }
        let named = |kind: &str| RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: kind.into(),
            name: USER.into(),
        };
        let subjects = vec![Subject {
            kind: "User".into(),
            name: USER.into(),
            api_group: Some("rbac.authorization.k8s.io".into()),
            namespace: None,
        }];
        let binding = ClusterRoleBinding {
            metadata: meta(USER),
            role_ref: named("ClusterRole"),
            subjects: Some(subjects.clone()),
        };
        bindings
            .create(&PostParams::default(), &binding)
            .await
            .expect("a binding");
        self.namespace("postern").await;
        let roles: Api<Role> = Api::namespaced(self.admin.clone(), "postern");
        let bindings: Api<RoleBinding> = Api::namespaced(self.admin.clone(), "postern");
        let role = Role {
            metadata: meta(USER),
            rules: Some(rights::operator_own_rules()),
        };
        roles
            .create(&PostParams::default(), &role)
            .await
            .expect("a role");
        let binding = RoleBinding {
            metadata: meta(USER),
            role_ref: named("Role"),
            subjects: Some(subjects),
        };
        bindings
            .create(&PostParams::default(), &binding)
            .await
            .expect("a binding");
    }

    /// Starts the operator.
    pub async fn start_operator(&mut self) {
        self.start_operator_named("postern-operator-0").await;
    }

    /// Starts an operator as a pod of this name.
    pub async fn start_operator_named(&mut self, pod: &str) {
        let kubeconfig = self.cluster.kubeconfig_for(USER, &[]).expect("a user");
        let config = config(&kubeconfig).await;
        let arguments = Command::parse_from([
            "run",
            "--namespace=postern",
            &format!("--pod-name={pod}"),
            "--controlplane-image=postern.test/controlplane:dev",
            "--proxy-image=postern.test/proxy:dev",
            "--probes-address=127.0.0.1:0",
            "--api-server-ports=6443",
            "--node-addresses=192.0.2.1",
            "--exposure-linger-seconds=3",
        ])
        .run;
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            stopped.await.expect("asked to stop");
        };
        self.operator = Some(Operator {
            stop,
            task: tokio::spawn(run_on(config, arguments, stopped)),
        });
    }

    /// Kills the operator: it gets no time to do anything.
    pub async fn kill_operator(&mut self) {
        let Operator { stop, task } = self.operator.take().expect("an operator");
        task.abort();
        assert!(
            task.await.expect_err("aborted").is_cancelled(),
            "it ended before"
        );
        drop(stop);
    }

    /// Asks the operator to stop, as SIGTERM does.
    pub async fn stop_operator(&mut self) {
        let Operator { stop, task } = self.operator.take().expect("an operator");
        stop.send(()).expect("it listens");
        task.await
            .expect("it did not break down")
            .expect("it ended well");
    }

    pub fn api(&self, namespace: &str, of: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.admin.clone(), namespace, &kind(of))
    }

    pub fn cluster_api(&self, of: &str) -> Api<DynamicObject> {
        Api::all_with(self.admin.clone(), &kind(of))
    }

    /// Makes a Namespace.
    pub async fn namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        let fresh = Namespace {
            metadata: ObjectMeta {
                name: Some(name.into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        namespaces
            .create(&PostParams::default(), &fresh)
            .await
            .expect("a Namespace");
    }

    /// Applies YAML as somebody would.
    pub fn apply(&self, yaml: &str) {
        let arguments = ["apply", "-f", "-"];
        let kubeconfig = self.cluster.kubeconfig();
        let output = self
            .cluster
            .kubectl_as(&kubeconfig, &arguments, yaml)
            .expect("kubectl");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}\n{yaml}");
    }

    /// Whether kubectl does something with this input.
    pub fn may(&self, arguments: &[&str], input: &str) -> bool {
        let kubeconfig = self.cluster.kubeconfig();
        let output = self.cluster.kubectl_as(&kubeconfig, arguments, input);
        output.expect("kubectl").status.success()
    }

    /// The objects that the operator keeps in a namespace, as `Kind/name` with their versions.
    pub async fn stamped(&self, namespace: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for kind in STAMPED {
            let listed = self.api(namespace, kind).list(&Default::default()).await;
            for object in listed.expect("a list").items {
                let owned = object
                    .metadata
                    .owner_references
                    .iter()
                    .flatten()
                    .next()
                    .is_some();
                if owned {
                    let name = object.metadata.name.unwrap_or_default();
                    let version = object.metadata.resource_version.unwrap_or_default();
                    found.push((format!("{kind}/{name}"), version));
                }
            }
        }
        found
    }

    /// An object, once it is there.
    pub async fn there(&self, namespace: &str, kind: &str, name: &str) -> DynamicObject {
        let api = self.api(namespace, kind);
        let what = format!("{kind} {namespace}/{name}");
        eventually(&what, || async { found(&api, name).await }).await
    }

    /// Waits until an object is as somebody wants it.
    pub async fn becomes(
        &self,
        (namespace, kind, name): (&str, &str, &str),
        what: &str,
        wanted: impl Fn(&DynamicObject) -> bool,
    ) -> DynamicObject {
        let api = self.api(namespace, kind);
        eventually(what, || async { found(&api, name).await.filter(&wanted) }).await
    }

    /// Waits until a condition of an instance has this reason. Returns its message.
    pub async fn reason(&self, key: (&str, &str), of: &str, reason: &str) -> String {
        let what = format!("{key:?}: {of} is {reason}");
        let object = self
            .becomes((key.0, "GatewayInstance", key.1), &what, |object| {
                condition(object, of).is_some_and(|found| {
                    found["reason"] == reason && found["observedGeneration"] == generation(object)
                })
            })
            .await;
        let found = condition(&object, of).expect("just seen");
        found["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an object is gone.
    pub async fn gone(&self, namespace: &str, kind: &str, name: &str) {
        let api = self.api(namespace, kind);
        let what = format!("{kind} {namespace}/{name} is gone");
        eventually(&what, || async {
            found(&api, name).await.is_none().then_some(())
        })
        .await;
    }
}

/// An object, if it is there and its kind is served: for a group that it does not know, an API server
/// answers 404 without a reason.
async fn found(api: &Api<DynamicObject>, name: &str) -> Option<DynamicObject> {
    match api.get_opt(name).await {
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        answer => answer.expect("an answer"),
    }
}

/// A condition of an object.
pub fn condition<'a>(object: &'a DynamicObject, of: &str) -> Option<&'a Value> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == of)
}

fn generation(object: &DynamicObject) -> i64 {
    object.metadata.generation.unwrap_or_default()
}
