//! The cluster, its objects and its users.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use postern_cluster::{Cluster, Gone, Options as ClusterOptions};
use postern_refs::{Key, Snapshot};
use serde_json::{Value, json};
use tokio::sync::watch;

/// More than fit on three connections.
pub const SECRETS: usize = 300;

pub struct World {
    pub cluster: Cluster,
    _gone: Gone,
}

impl World {
    pub fn up() -> World {
        let name = format!("watch-{}", std::process::id());
        let gone = Gone(name.clone());
        let options = ClusterOptions {
            light: true,
            ..ClusterOptions::default()
        };
        let cluster = Cluster::up(&name, &options).expect("a cluster");
        World {
            cluster,
            _gone: gone,
        }
    }

    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let output = self
            .cluster
            .kubectl_as(&self.cluster.kubeconfig(), arguments, input)
            .expect("kubectl");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub fn apply(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.kubectl(&["apply", "--server-side", "-f", "-"], &list.to_string());
    }

    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Value {
        let text = self.kubectl(&["get", kind, "-n", namespace, name, "-o", "json"], "");
        serde_json::from_str(&text).expect("JSON")
    }

    pub async fn config(&self, user: &str) -> Config {
        let path = self
            .cluster
            .kubeconfig_for(user, &[])
            .expect("a kubeconfig");
        config(&path).await
    }
}

pub async fn config(path: &Path) -> Config {
    let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a configuration")
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub fn route(namespace: &str, name: &str, hostname: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "parentRefs": [{"name": "g"}], "hostnames": [hostname],
            "rules": [{"backendRefs": [{"name": "s", "port": 80}], "timeouts": {"request": "1s"}}],
        },
    })
}

pub fn secret(name: &str, certificate: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "own", "name": name},
        "type": "kubernetes.io/tls", "stringData": {"tls.crt": certificate, "tls.key": "k"},
    })
}

/// A Role and its binding to the control plane's user.
pub fn role(namespace: &str, name: &str, rules: &Value) -> [Value; 2] {
    let metadata = json!({"namespace": namespace, "name": name});
    [
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "cp"}],
        }),
    ]
}

pub fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

pub async fn until(
    what: &str,
    snapshots: &mut watch::Receiver<Option<Arc<Snapshot>>>,
    meets: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let wait = snapshots.wait_for(|snapshot| snapshot.as_deref().is_some_and(&meets));
    let snapshot = within(what, wait).await.expect("the source lives");
    Arc::clone(snapshot.as_ref().expect("a Snapshot"))
}

pub fn hostname(snapshot: &Snapshot, namespace: &str, name: &str) -> Option<String> {
    let route = snapshot.http_routes.get(&Key::new(namespace, name))?;
    Some(route.valid()?.hostnames.first()?.to_string())
}

pub fn certificate(snapshot: &Snapshot, name: &str) -> Option<String> {
    let secret = snapshot.secrets.get(&Key::new("own", name))?;
    secret.valid()?.certificate.as_deref().map(str::to_owned)
}

pub fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .expect("RssAnon");
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// Connections of this process to that port.
pub fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("the table");
    let mine: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .expect("descriptors")
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| {
            Some(
                link.to_str()?
                    .strip_prefix("socket:[")?
                    .trim_end_matches(']')
                    .to_owned(),
            )
        })
        .collect();
    let to_port = format!(":{port:04X}");
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 9 && fields[2].ends_with(&to_port) && fields[3] == "01")
        .filter(|fields| mine.iter().any(|inode| inode == fields[9]))
        .count()
}
