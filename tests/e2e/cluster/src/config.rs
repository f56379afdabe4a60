//! Command lines and configuration files of every part.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::binaries::Binaries;
use crate::layout::Layout;
use crate::pki::Pki;

/// The node's name in the cluster.
pub const NODE: &str = "node1";
/// The image of pods' sandboxes.
pub(crate) const PAUSE_IMAGE: &str = "postern.test/pause:1";
/// Where CoreDNS says that it is ready, inside.
pub(crate) const DNS_READY: &str = "127.0.0.1:8181";
/// Where kube-proxy says that its rules are in place, inside.
pub(crate) const PROXY_HEALTH: &str = "127.0.0.1:10256";

/// The addresses of a cluster. All of them exist inside its network namespace only, so clusters
/// may have the same ones; numbers other than 0 are for clusters that are to be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    number: u8,
    /// The node: 198.18.NUMBER.10 (of the range for benchmarks of RFC 2544: never on the internet).
    pub node: Ipv4Addr,
}

impl Addresses {
    /// The addresses of the cluster of this number, 0 to 9.
    ///
    /// # Errors
    /// Where the number is greater.
    pub fn numbered(number: u8) -> Result<Self> {
        ensure!(number < 10, "a cluster's number is 0 to 9, not {number}");
        Ok(Self {
            number,
            node: Ipv4Addr::new(198, 18, number, 10),
        })
    }

    /// The node's network, with its length.
    pub fn node_network(&self) -> String {
        format!("198.18.{}.0/24", self.number)
    }

    /// The peer outside, on the node's network: its own address, and a second one.
    pub(crate) fn outside(&self) -> [Ipv4Addr; 2] {
        [100, 101].map(|last| Ipv4Addr::new(198, 18, self.number, last))
    }

    /// Where the node would send what it does not know: nobody is there.
    pub(crate) fn nowhere(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, 1)
    }

    /// Pods, with the length.
    pub fn pods(&self) -> String {
        format!("10.244.{}.0/24", self.number)
    }

    /// ClusterIPs, with the length.
    pub fn services(&self) -> String {
        format!("10.{}.0.0/16", 96 + u16::from(self.number))
    }

    /// The ClusterIP of `default/kubernetes`.
    pub fn first_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.number, 0, 1)
    }
}

/// Everything that a command line or a file depends on.
pub(crate) struct Config<'a> {
    pub layout: &'a Layout,
    pub binaries: &'a Binaries,
    pub addresses: Addresses,
    /// The API server's port, inside and outside.
    pub port: u16,
    pub light: bool,
}

fn flags<const N: usize>(flags: [(&str, String); N]) -> Vec<String> {
    flags
        .into_iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Config<'_> {
    fn pki(&self, file: &str) -> String {
        text(&Pki::at(self.layout.at("pki")).file(file))
    }

    /// The kubeconfig of a component.
    fn identity(&self, component: &str) -> String {
        text(&self.layout.at(&format!("etc/{component}.kubeconfig")))
    }

    /// etcd listens on a socket in a folder of this user alone: on a port of the loopback
    /// anybody on the machine could write to it.
    fn etcd_url(&self) -> String {
        format!("unix://{}", text(&self.layout.at("run/etcd.sock")))
    }

    pub fn etcd(&self) -> Vec<String> {
        // There is one member, but etcd listens for others, and wants a name with a port. It makes
        // a socket of this name where it works, which is the folder of sockets.
        let peer = "unix://peer:1";
        let mut all = flags([
            ("name", "default".into()),
            ("data-dir", text(&self.layout.at("etcd"))),
            ("listen-client-urls", self.etcd_url()),
            ("advertise-client-urls", "unix://client:1".into()),
            ("listen-peer-urls", peer.into()),
            ("initial-advertise-peer-urls", peer.into()),
            ("initial-cluster", format!("default={peer}")),
            ("log-level", "warn".into()),
        ]);
        // The data is thrown away with the cluster.
        all.push("--unsafe-no-fsync".into());
        all
    }

    pub fn apiserver(&self) -> Vec<String> {
        let mut all = flags([
            ("etcd-servers", self.etcd_url()),
            ("secure-port", self.port.to_string()),
            ("service-cluster-ip-range", self.addresses.services()),
            ("tls-cert-file", self.pki("apiserver.crt")),
            ("tls-private-key-file", self.pki("apiserver.key")),
            ("client-ca-file", self.pki("ca.crt")),
            ("service-account-key-file", self.pki("sa.pub")),
            ("service-account-signing-key-file", self.pki("sa.key")),
            (
                "service-account-issuer",
                "https://kubernetes.default.svc".into(),
            ),
            ("authorization-mode", "Node,RBAC".into()),
            (
                "enable-admission-plugins",
                "NodeRestriction,OwnerReferencesPermissionEnforcement".into(),
            ),
            ("allow-privileged", "true".into()),
            ("profiling", "false".into()),
        ]);
        if self.light {
            all.extend(flags([
                ("bind-address", Ipv4Addr::LOCALHOST.to_string()),
                ("advertise-address", Ipv4Addr::LOCALHOST.to_string()),
                // No endpoint may be a loopback address, and nothing here uses it.
                ("endpoint-reconciler-type", "none".into()),
                ("cert-dir", text(&self.layout.at("run"))),
            ]));
            return all;
        }
        all.extend(flags([
            ("bind-address", Ipv4Addr::UNSPECIFIED.to_string()),
            ("advertise-address", self.addresses.node.to_string()),
            ("kubelet-certificate-authority", self.pki("ca.crt")),
            (
                "kubelet-client-certificate",
                self.pki("apiserver-kubelet-client.crt"),
            ),
            (
                "kubelet-client-key",
                self.pki("apiserver-kubelet-client.key"),
            ),
            // Else exec and logs ask DNS for the node's name.
            ("kubelet-preferred-address-types", "InternalIP".into()),
            ("requestheader-client-ca-file", self.pki("front-ca.crt")),
            ("requestheader-allowed-names", "front-proxy-client".into()),
            (
                "requestheader-extra-headers-prefix",
                "X-Remote-Extra-".into(),
            ),
            ("requestheader-group-headers", "X-Remote-Group".into()),
            ("requestheader-username-headers", "X-Remote-User".into()),
            ("proxy-client-cert-file", self.pki("front-proxy.crt")),
            ("proxy-client-key-file", self.pki("front-proxy.key")),
        ]));
        all
    }

    pub fn controller_manager(&self) -> Vec<String> {
        flags([
            ("kubeconfig", self.identity("controller-manager")),
            ("service-account-private-key-file", self.pki("sa.key")),
            ("root-ca-file", self.pki("ca.crt")),
            ("use-service-account-credentials", "true".into()),
            ("leader-elect", "false".into()),
            ("cluster-signing-cert-file", self.pki("ca.crt")),
            ("cluster-signing-key-file", self.pki("ca.key")),
            // It makes this folder; the default is one of the machine's.
            (
                "flex-volume-plugin-dir",
                text(&self.layout.at("kubelet/volume-plugins")),
            ),
            ("profiling", "false".into()),
        ])
    }

    pub fn scheduler(&self) -> Vec<String> {
        flags([
            ("kubeconfig", self.identity("scheduler")),
            ("leader-elect", "false".into()),
            ("profiling", "false".into()),
        ])
    }

    pub fn proxy(&self) -> Vec<String> {
        let (health, metrics) = (PROXY_HEALTH.into(), "127.0.0.1:10249".into());
        flags([
            ("kubeconfig", self.identity("proxy")),
            ("hostname-override", NODE.into()),
            ("proxy-mode", "nftables".into()),
            ("cluster-cidr", self.addresses.pods()),
            ("healthz-bind-address", health),
            ("metrics-bind-address", metrics),
            // These sysctls are the whole machine's: they are left as they are.
            ("conntrack-max-per-core", "0".into()),
            ("conntrack-min", "0".into()),
            ("conntrack-tcp-timeout-established", "0".into()),
            ("conntrack-tcp-timeout-close-wait", "0".into()),
        ])
    }

    pub fn netpol(&self) -> Vec<String> {
        flags([
            ("kubeconfig", self.identity("netpol")),
            ("hostname-override", NODE.into()),
            ("service-cluster-ip-range", self.addresses.services()),
        ])
    }

    pub fn coredns(&self) -> Vec<String> {
        vec!["-conf".into(), text(&self.layout.at("etc/Corefile"))]
    }

    /// CoreDNS answers on the node's address. `hosts` in the state folder holds names that a test
    /// wants beside the cluster's own. What neither knows does not exist, as a resolver on the
    /// internet would say; without the last rule it would be refused, which clients ask again.
    pub fn corefile(&self) -> String {
        format!(
            ".:53 {{
    bind {node}
    errors
    ready {DNS_READY}
    cache 5
    hosts {hosts} {{
        reload 1s
        fallthrough
    }}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {identity}
        pods insecure
        fallthrough in-addr.arpa
    }}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
",
            node = self.addresses.node,
            hosts = text(&self.layout.at("hosts")),
            identity = self.identity("coredns"),
        )
    }

    pub fn kubelet(&self) -> Vec<String> {
        flags([
            ("config", text(&self.layout.at("etc/kubelet.json"))),
            ("kubeconfig", self.identity("kubelet")),
            ("hostname-override", NODE.into()),
            ("node-ip", self.addresses.node.to_string()),
            ("root-dir", text(&self.layout.at("kubelet"))),
            ("cert-dir", text(&self.layout.at("kubelet/pki"))),
        ])
    }

    /// The kubelet's configuration file. Version 1 of cgroups works as tried; on version 2 the
    /// same settings are meant to work, which could not be tried.
    pub fn kubelet_file(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.pki("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": self.pki("kubelet-server.crt"),
            "tlsPrivateKeyFile": self.pki("kubelet-server.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.layout.name.cgroup()),
            "cgroupsPerQOS": true,
            "failCgroupV1": false,
            // The node's own processes stay in the cgroup of who started them.
            "enforceNodeAllocatable": [],
            "failSwapOn": false,
            "clusterDNS": [self.addresses.node.to_string()],
            "clusterDomain": "cluster.local",
            // Pods with the DNS policy Default must not learn the machine's resolvers.
            "resolvConf": "",
            "containerRuntimeEndpoint":
                format!("unix://{}", text(&self.layout.containerd_socket())),
            "podLogsDir": text(&self.layout.at("logs/pods")),
            "volumePluginDir": text(&self.layout.at("kubelet/volume-plugins")),
            // Images come from archives only: nothing could bring back one that was collected.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "memory.available": "100Mi",
            },
        })
    }

    pub fn containerd(&self) -> Vec<String> {
        vec![
            "--config".into(),
            text(&self.layout.at("etc/containerd.toml")),
        ]
    }

    /// containerd's configuration, version 3. Its `state` stays `/run/containerd`, which inside is
    /// a folder of the node's own.
    pub fn containerd_file(&self) -> String {
        format!(
            r#"version = 3
root = "{root}"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE no sandbox could start otherwise.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{runc}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"
"#,
            root = text(&self.layout.at("containerd")),
            socket = text(&self.layout.containerd_socket()),
            plugins = text(&self.binaries.cni()),
            cni = text(&self.layout.at("etc/cni")),
            runc = text(&self.binaries.program("runc")),
        )
    }

    pub fn cni_file(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": true,
                    "ipMasq": false,
                    "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": self.addresses.pods()}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": text(&self.layout.at("run/ipam")),
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        })
    }

    /// What the parts that are no part of Kubernetes may read, and no more.
    pub fn rbac(&self) -> Value {
        let role = |name: &str, rules: Value| {
            let user = format!("postern:{name}");
            [
                json!({
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRole",
                    "metadata": {"name": user},
                    "rules": rules,
                }),
                json!({
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": user},
                    "roleRef": {
                        "apiGroup": "rbac.authorization.k8s.io",
                        "kind": "ClusterRole",
                        "name": user,
                    },
                    "subjects": [{
                        "apiGroup": "rbac.authorization.k8s.io",
                        "kind": "User",
                        "name": user,
                    }],
                }),
            ]
        };
        let read = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
        let coredns = json!([
            read("", &["endpoints", "services", "pods", "namespaces"]),
            read("discovery.k8s.io", &["endpointslices"]),
        ]);
        let netpol = json!([
            read("", &["pods", "namespaces", "nodes", "services"]),
            read("networking.k8s.io", &["networkpolicies"]),
        ]);
        let items: Vec<Value> = [role("coredns", coredns), role("netpol", netpol)]
            .into_iter()
            .flatten()
            .collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    }
}

#[cfg(test)]
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the methods are of one lifetime, `with` calls with any"
)]
mod tests {
    use super::*;

    fn with<T>(light: bool, check: impl FnOnce(&Config<'_>) -> T) -> T {
        let layout = Layout::below("/s/clusters".into(), &"a".parse().unwrap());
        let binaries = Binaries::at("/b".into());
        check(&Config {
            layout: &layout,
            binaries: &binaries,
            addresses: Addresses::numbered(3).unwrap(),
            port: 4711,
            light,
        })
    }

    #[test]
    fn addresses_follow_the_number() {
        let addresses = Addresses::numbered(3).unwrap();
        assert_eq!(addresses.node.to_string(), "198.18.3.10");
        assert_eq!(addresses.pods(), "10.244.3.0/24");
        assert_eq!(addresses.services(), "10.99.0.0/16");
        assert_eq!(addresses.first_service().to_string(), "10.99.0.1");
        assert!(Addresses::numbered(10).is_err());
    }

    #[test]
    fn the_api_server_enforces_what_tests_rely_on() {
        let full = with(false, |config| config.apiserver());
        let light = with(true, |config| config.apiserver());
        for flags in [&full, &light] {
            assert!(flags.contains(&"--authorization-mode=Node,RBAC".to_owned()));
            assert!(flags.contains(
                &"--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement"
                    .to_owned()
            ));
            assert!(flags.contains(&"--secure-port=4711".to_owned()));
        }
        assert!(light.contains(&"--bind-address=127.0.0.1".to_owned()));
        assert!(
            full.contains(
                &"--requestheader-client-ca-file=/s/clusters/a/pki/front-ca.crt".to_owned()
            )
        );
    }

    #[test]
    fn nothing_is_kept_outside_the_state_folder() {
        let written = with(false, |config| {
            [
                config.etcd().join("\n"),
                config.apiserver().join("\n"),
                config.controller_manager().join("\n"),
                config.scheduler().join("\n"),
                config.kubelet().join("\n"),
                config.kubelet_file().to_string(),
                config.containerd_file(),
                config.cni_file().to_string(),
                config.corefile(),
            ]
            .join("\n")
        });
        let paths: Vec<_> = written
            .split(['"', '=', ' ', '\n'])
            .map(|word| word.trim_start_matches("unix://"))
            .filter(|word| word.starts_with('/'))
            .collect();
        assert!(paths.len() > 20, "{paths:?}");
        for path in paths {
            assert!(
                path.starts_with("/s/clusters/a/")
                    || path.starts_with("/b/")
                    || path == "/postern-a",
                "{path}"
            );
        }
    }

    #[test]
    fn every_cluster_has_a_cgroup_of_its_own() {
        with(false, |config| {
            assert_eq!(config.kubelet_file()["cgroupRoot"], "/postern-a");
        });
    }

    #[test]
    fn helpers_only_read() {
        let rbac = with(false, |config| config.rbac());
        let mut rules = 0;
        for rule in rbac["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|item| item["rules"].as_array())
            .flatten()
        {
            assert_eq!(rule["verbs"], json!(["get", "list", "watch"]));
            assert!(!rule["resources"].to_string().contains("secrets"));
            rules += 1;
        }
        assert_eq!(rules, 4);
    }
}
