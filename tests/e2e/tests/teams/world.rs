//! The cluster that all parts act on, and the few verbs that they share.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_cluster::Cluster;
pub use postern_e2e::demo::TEAMS;
use postern_e2e::demo::{Demo, Install};
pub use postern_e2e::http::{exchange, get};
use postern_e2e::platform::{self, SYSTEM};
use postern_edge::{Ask, Clients, Place, Target};
use serde_json::Value;

/// How long something may take that a controller has to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Names that Postern gives to what it makes of an instance `default`.
pub const CONTROL_PLANE: &str = "postern-default-controlplane";
pub const ENVOY: &str = "postern-default-envoy";
pub const GATEWAY_SERVICE: &str = "postern-default-gateway";
pub const ENTITLEMENT: &str = "postern-default-entitlement";

/// What OLM adds to `edit` for every kind that a bundle owns. The sets of `config/tenants` do not, and
/// whatever tenants do with Entitlements must come to nothing.
const AS_BY_OLM: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: entitlements-edit
  labels: {rbac.authorization.k8s.io/aggregate-to-edit: 'true'}
rules:
- {apiGroups: [postern.dev], resources: [entitlements], verbs: [create, update, patch, delete]}
";

/// Labels of the operator's pods.
const OPERATOR_PODS: &str = "app.kubernetes.io/name=postern,app.kubernetes.io/component=operator";

/// Two teams on a cluster.
pub struct World {
    pub demo: Demo,
    node: IpAddr,
}

/// Who acts.
#[derive(Clone, Copy)]
pub enum Who<'a> {
    Admin,
    /// The user of team-a (0) or team-b (1).
    Tenant(usize),
    /// Whoever a kubeconfig says.
    Config(&'a Path),
}

impl World {
    pub fn up(name: &str, tell: &dyn Fn(&str)) -> Result<World> {
        // One that was kept is taken as it is.
        let demo =
            Demo::again(name).or_else(|_| Demo::up(name, "dev", Install::Manifests, tell))?;
        let node = demo.cluster.addresses()?.node;
        let world = World {
            demo,
            node: node.into(),
        };
        world.apply(Who::Admin, AS_BY_OLM)?;
        Ok(world)
    }

    pub fn cluster(&self) -> &Cluster {
        &self.demo.cluster
    }

    /// kubectl as somebody; the output is for the caller to judge.
    pub fn ask(&self, who: Who<'_>, arguments: &[&str], input: &str) -> Result<Output> {
        let kubeconfig = match who {
            Who::Admin => self.cluster().kubeconfig(),
            Who::Tenant(number) => self.demo.tenants[number].clone(),
            Who::Config(path) => path.to_owned(),
        };
        self.cluster().kubectl_as(&kubeconfig, arguments, input)
    }

    /// What somebody may do, and its answer.
    pub fn may(&self, who: Who<'_>, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.ask(who, arguments, input)?;
        ensure!(
            output.status.success(),
            "should be allowed: {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What somebody may not do: the API server answers 403, and not with another error.
    /// Returns what it said.
    pub fn may_not(&self, who: Who<'_>, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.ask(who, arguments, input)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success(),
            "should be forbidden: {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout)
        );
        ensure!(
            said.contains("(Forbidden)") || said.contains("is forbidden"),
            "should be forbidden: {}: {said}",
            arguments.join(" ")
        );
        Ok(said.into_owned())
    }

    /// A kubeconfig with a token of a ServiceAccount and nothing else, minted by somebody.
    pub fn token(&self, who: Who<'_>, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self.may(who, &["-n", namespace, "create", "token", account], "")?;
        let view = ["config", "view", "--raw", "--minify", "-o", "json"];
        let mut config: Value = serde_json::from_str(&self.may(Who::Admin, &view, "")?)?;
        config["users"][0]["user"] = serde_json::json!({"token": token.trim()});
        let path = self
            .cluster()
            .state_dir()
            .join(format!("{namespace}-{account}.token.kubeconfig"));
        fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// Applies YAML or JSON as somebody.
    pub fn apply(&self, who: Who<'_>, text: &str) -> Result<()> {
        self.may(
            who,
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            text,
        )
        .map(|_| ())
    }

    /// A value by JSONPath, as the administrator.
    pub fn value(&self, namespace: &str, object: &str, path: &str) -> Result<String> {
        platform::value(self.cluster(), namespace, object, path)
    }

    /// An object as JSON, as the administrator.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        let text = self.may(Who::Admin, &all, "")?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// All kinds that stand in namespaces and can be listed, but these, joined by commas.
    pub fn kinds(&self, but: &[&str]) -> Result<String> {
        let list = [
            "api-resources",
            "--namespaced",
            "--verbs=list",
            "-o",
            "name",
        ];
        let all = self.may(Who::Admin, &list, "")?;
        let is_wanted = |name: &&str| !but.contains(&name.split('.').next().unwrap_or_default());
        Ok(all.lines().filter(is_wanted).collect::<Vec<_>>().join(","))
    }

    /// Waits until `done`.
    pub fn wait(&self, what: &str, done: impl FnMut() -> Result<bool>) -> Result<()> {
        let about = [
            "get",
            "pods,httproutes,gatewayinstances",
            "-A",
            "-o",
            "wide",
        ];
        platform::wait(self.cluster(), what, PATIENCE, &about, done)
    }

    /// Scales a Deployment and waits until exactly that many pods are there, ready ones if any.
    pub fn scale(&self, namespace: &str, name: &str, replicas: u32) -> Result<()> {
        self.scale_only(namespace, name, replicas)?;
        self.wait(&format!("{namespace}/{name} has {replicas} ready"), || {
            let object = format!("deployment/{name}");
            let text = self.value(
                namespace,
                &object,
                "{.status.readyReplicas}/{.status.replicas}/{.status.observedGeneration}/{.metadata.generation}",
            )?;
            let part: Vec<&str> = text.split('/').collect();
            let wanted = if replicas == 0 { String::new() } else { replicas.to_string() };
            Ok(part.len() == 4 && part[0] == wanted && part[1] == wanted && part[2] == part[3])
        })
    }

    /// Waits until all pods of a Deployment are of its newest template, ready, and no others are left.
    pub fn settled(&self, namespace: &str, name: &str) -> Result<()> {
        self.wait(&format!("{namespace}/{name} has rolled out"), || {
            let deployment = self.json(&["-n", namespace, "deployment", name])?;
            let (status, wanted) = (&deployment["status"], &deployment["spec"]["replicas"]);
            let seen = status["observedGeneration"] == deployment["metadata"]["generation"];
            let counts = ["replicas", "updatedReplicas", "readyReplicas"];
            let pods = self.pods_of(namespace, name)?.len() as u64;
            Ok(seen
                && Some(pods) == wanted.as_u64()
                && counts.iter().all(|count| status[count] == *wanted))
        })
    }

    /// Waits until none of a Deployment's pods is on its way out. Envoys drain before they go.
    pub fn drained(&self, namespace: &str, name: &str) -> Result<()> {
        let selector = self.selector(namespace, name)?;
        self.wait(
            &format!("the old pods of {namespace}/{name} are gone"),
            || {
                let list = self.json(&["-n", namespace, "pods", "-l", &selector])?;
                let pods = list["items"].as_array().context("no list")?;
                let stays = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
                Ok(pods.iter().all(stays))
            },
        )
    }

    /// Replaces a Deployment's pods one after another, until the old ones are gone.
    pub fn restart(&self, who: Who<'_>, namespace: &str, name: &str) -> Result<()> {
        let old = self.pods_of(namespace, name)?;
        let object = format!("deployment/{name}");
        self.may(who, &["-n", namespace, "rollout", "restart", &object], "")?;
        self.settled(namespace, name)?;
        self.drained(namespace, name)?;
        let new = self.pods_of(namespace, name)?;
        ensure!(
            !old.is_empty() && new.iter().all(|pod| !old.contains(pod)),
            "{namespace}/{name}: {old:?} became {new:?}"
        );
        Ok(())
    }

    pub fn scale_only(&self, namespace: &str, name: &str, replicas: u32) -> Result<()> {
        let count = format!("--replicas={replicas}");
        let object = format!("deployment/{name}");
        self.may(Who::Admin, &["-n", namespace, "scale", &object, &count], "")
            .map(|_| ())
    }

    /// Stops the operator while `act` runs, and starts it again whatever happens.
    pub fn without_operator<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.scale(SYSTEM, "postern-operator", 0)?;
        // A Deployment does not count pods that are ending, and such a one may still act.
        self.wait("the operator's pods are gone", || {
            let list = ["-n", SYSTEM, "pods", "-l", OPERATOR_PODS];
            Ok(self.json(&list)?["items"] == serde_json::json!([]))
        })?;
        let done = act();
        self.scale(SYSTEM, "postern-operator", 1)?;
        done
    }

    /// Sets a variable of the operator (`NAME=value`, or `NAME-` for its default) as an admin's Subscription
    /// does; the operator is replaced for it.
    pub fn set_operator(&self, variable: &str) -> Result<()> {
        let object = "deployment/postern-operator";
        let set = ["-n", SYSTEM, "set", "env", object, variable];
        self.may(Who::Admin, &set, "").map(|_| ())
    }

    /// The addresses of running pods, each with its name.
    pub fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<(String, IpAddr)>> {
        let list = self.json(&["-n", namespace, "pods", "-l", selector])?;
        let mut pods = Vec::new();
        for pod in list["items"].as_array().into_iter().flatten() {
            if pod["metadata"]["deletionTimestamp"].is_null()
                && let (Some(name), Some(ip)) = (
                    pod["metadata"]["name"].as_str(),
                    pod["status"]["podIP"].as_str(),
                )
            {
                pods.push((name.to_owned(), ip.parse()?));
            }
        }
        Ok(pods)
    }

    /// The pods of a Deployment of ours.
    pub fn pods_of(&self, namespace: &str, deployment: &str) -> Result<Vec<(String, IpAddr)>> {
        self.pods(namespace, &self.selector(namespace, deployment)?)
    }

    /// What selects the pods of a Deployment.
    fn selector(&self, namespace: &str, deployment: &str) -> Result<String> {
        let object = self.json(&["-n", namespace, "deployment", deployment])?;
        let labels = object["spec"]["selector"]["matchLabels"]
            .as_object()
            .context("a Deployment without selector")?;
        let selector: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect();
        Ok(selector.join(","))
    }

    /// The node's address and the port that leads to a team's listener.
    pub fn node_port(&self, team: &str, port: u16) -> Result<SocketAddr> {
        let path = format!("{{.spec.ports[?(@.port=={port})].nodePort}}");
        let number = self.value(team, &format!("service/{GATEWAY_SERVICE}"), &path)?;
        Ok(SocketAddr::new(self.node, number.trim().parse()?))
    }

    /// One GET from the node: the status and the body.
    pub fn get(&self, at: SocketAddr, host: &str, path: &str) -> Result<(u16, String)> {
        self.cluster().inside(|| get(at, host, path))?
    }

    /// Waits until a GET answers so.
    pub fn wait_for_answer(
        &self,
        at: SocketAddr,
        host: &str,
        path: &str,
        right: impl Fn(u16, &str) -> bool,
    ) -> Result<()> {
        self.wait(&format!("{host}{path} answers as wanted"), || {
            Ok(self
                .get(at, host, path)
                .is_ok_and(|(status, body)| right(status, &body)))
        })
    }

    /// Clients of these: from outside where they are at the node's ports, else from the node, which alone
    /// reaches ClusterIPs.
    pub fn clients(&self, targets: &[Target<'_>]) -> Result<Clients> {
        let outside = self.cluster().outside()?;
        let at_node = |target: &Target<'_>| target.ask.at.ip() == self.node;
        let from = match targets.iter().all(at_node) {
            true => Place::Outside(&outside),
            false => Place::Node(self.cluster()),
        };
        Clients::start(from, targets)
    }

    /// Runs `act` while clients send requests of every kind; none of them may fail.
    pub fn under_load<T>(
        &self,
        targets: &[Target<'_>],
        what: &str,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.clients(targets)?.until_done(what, act)
    }

    /// What team-a serves over plain HTTP.
    pub fn shop(&self) -> Result<Target<'static>> {
        let at = self.node_port(TEAMS[0], 80)?;
        Ok(Ask::new("http://shop.team-a.example/", at).into())
    }

    /// Applies a route of a tenant: its parents as in `parentRefs`, one host, one rule.
    pub fn route(
        &self,
        tenant: usize,
        name: &str,
        parents: &str,
        host: &str,
        rule: &str,
    ) -> Result<()> {
        let team = TEAMS[tenant];
        let text = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {team}}}\n\
             spec: {{parentRefs: [{parents}], hostnames: [{host}], rules: [{{{rule}}}]}}"
        );
        self.apply(Who::Tenant(tenant), &text)
    }

    /// Deletes an object of a tenant, as the tenant.
    pub fn delete(&self, tenant: usize, kind: &str, name: &str) -> Result<()> {
        let arguments = ["-n", TEAMS[tenant], "delete", kind, name];
        self.may(Who::Tenant(tenant), &arguments, "").map(|_| ())
    }

    /// A condition of a route at its first parent, as a tenant reads it: status, reason, message.
    pub fn route_condition(
        &self,
        tenant: usize,
        team: &str,
        route: &str,
        kind: &str,
    ) -> Result<(String, String, String)> {
        let path = format!(
            "jsonpath={{range .status.parents[0].conditions[?(@.type==\"{kind}\")]}}{{.status}}|{{.reason}}|{{.message}}{{end}}"
        );
        let text = self.may(
            Who::Tenant(tenant),
            &["-n", team, "get", "httproute", route, "-o", &path],
            "",
        )?;
        let mut parts = text.splitn(3, '|').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Ok((next(), next(), next()))
    }

    /// Says what the cluster looks like, after something failed.
    pub fn explain(&self) {
        for arguments in [
            &[
                "get",
                "pods,gatewayinstances,httproutes,networkpolicies",
                "-A",
                "-o",
                "wide",
            ][..],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
            &[
                "-n",
                SYSTEM,
                "logs",
                "deployment/postern-operator",
                "--tail=30",
            ],
            &[
                "-n",
                "team-a",
                "logs",
                "deployment/postern-default-controlplane",
                "--tail=20",
            ],
            &[
                "-n",
                "team-b",
                "logs",
                "deployment/postern-default-controlplane",
                "--tail=20",
            ],
        ] {
            self.show(arguments, |_| true);
        }
        // Whether backends were there, and what Envoys say of what they could not serve.
        self.show(&["get", "endpointslices", "-A"], |_| true);
        let unready = |line: &str| line.contains("shop-") || line.contains("api-");
        self.show(&["get", "events", "-A"], unready);
        for team in TEAMS {
            let envoy = format!("deployment/{ENVOY}");
            let logs = ["-n", team, "logs", &envoy, "--all-pods", "--tail=-1"];
            self.show(&logs, |line| line.contains("\"status\":5"));
        }
    }

    /// Prints the last lines, of those that are wanted, of what kubectl tells.
    fn show(&self, arguments: &[&str], wanted: impl Fn(&str) -> bool) {
        if let Ok(output) = self.cluster().kubectl(arguments) {
            let text = String::from_utf8_lossy(&output.stdout);
            let lines: Vec<&str> = text.lines().filter(|line| wanted(line)).collect();
            println!("--- kubectl {}", arguments.join(" "));
            println!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// The file of an example.
pub fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join(path)
}
