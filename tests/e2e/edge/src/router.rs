//! The stand-in for the OpenShift Router, as a pod of a cluster.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use postern_cluster::{Cluster, Entry, ImageConfig};

use crate::objects::{self, DEPLOYMENT, IMAGE};
use crate::{apply, build, kubectl, must, who};

/// Where OpenShift's routers run.
pub(crate) const NAMESPACE: &str = "openshift-ingress";

/// How the router is reached: OpenShift's endpoint publishing strategies, as far as they differ for
/// who stands behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A pod with an address of its own, behind a NodePort that keeps the clients' addresses (as
    /// `LoadBalancerService` and `NodePortService` do).
    #[default]
    PodNetwork,
    /// A pod on the node's network with ports 80 and 443 of the node (`HostNetwork`).
    HostNetwork,
}

/// How a router is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How it is reached.
    pub mode: Mode,
    /// Its name in the status of Routes.
    pub name: String,
    /// The domain below which Routes without a host get one.
    pub domain: String,
    /// Whether it admits Routes with `wildcardPolicy: Subdomain`; OpenShift's default is no.
    pub wildcards: bool,
    /// The authority (PEM) that stands for OpenShift's service-ca: it certifies the pods behind
    /// reencrypt Routes that name no authority of their own. Without it no such pod is believed.
    pub service_ca: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            name: "default".into(),
            domain: "apps.example.test".into(),
            wildcards: false,
            service_ca: None,
        }
    }
}

impl Settings {
    pub(crate) fn canonical(&self) -> String {
        format!("router-{}.{}", self.name, self.domain)
    }
}

/// A router that serves a cluster's Routes. It stays when this value goes: [`Router::stop`] ends
/// it, and so does the end of the cluster.
#[derive(Debug)]
pub struct Router<'a> {
    cluster: &'a Cluster,
    settings: Settings,
    http: SocketAddr,
    https: SocketAddr,
    ca: String,
}

/// Makes an API server know Routes: the CRD of `openshift/api`, and the check of
/// `routes/custom-host` that OpenShift's API server makes.
///
/// # Errors
/// Where the CRD cannot be had or is not taken.
pub fn install_routes(cluster: &Cluster) -> Result<()> {
    let crd = build::router()?.join("routes.crd.yaml");
    let crd = crd.to_str().context("the cache's path is no text")?;
    kubectl(cluster, &["apply", "--server-side", "-f", crd])?;
    let established = [
        "wait",
        "--for=condition=Established",
        "crd/routes.route.openshift.io",
        "--timeout=60s",
    ];
    kubectl(cluster, &established)?;
    apply(cluster, &objects::custom_host())
}

impl<'a> Router<'a> {
    /// Starts a router with default settings and waits until it serves. The API server must know
    /// Routes.
    ///
    /// # Errors
    /// Where it does not start, with what it said.
    pub fn start(cluster: &'a Cluster, mode: Mode) -> Result<Self> {
        let settings = Settings {
            mode,
            ..Settings::default()
        };
        Self::start_with(cluster, settings)
    }

    /// As [`Router::start`], with settings. One that is there is set anew.
    ///
    /// # Errors
    /// Where it does not start, with what it said.
    pub fn start_with(cluster: &'a Cluster, settings: Settings) -> Result<Self> {
        load_image(cluster)?;
        let wildcard = format!("*.{}", settings.domain);
        let [ca, certificate, key] = who::certificate(&[&settings.domain, &wildcard])?;
        apply(cluster, &[objects::namespace()])?;
        apply(cluster, &objects::router(&settings, &certificate, &key))?;
        let deployment = format!("deployment/{DEPLOYMENT}");
        let ready = [
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            &deployment,
            "--timeout=90s",
        ];
        must("the router's start", cluster.kubectl(&ready)?).with_context(|| said(cluster))?;
        let [http, https] = match settings.mode {
            Mode::HostNetwork => [80, 443],
            Mode::PodNetwork => [node_port(cluster, "http")?, node_port(cluster, "https")?],
        }
        .map(|port: u16| Ok::<_, anyhow::Error>((cluster.addresses()?.node, port).into()));
        Ok(Self {
            cluster,
            settings,
            http: http?,
            https: https?,
            ca,
        })
    }

    /// Where it answers HTTP, as seen from outside the cluster.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where it answers HTTPS, as seen from outside the cluster.
    #[must_use]
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// How it is reached.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// The domain below which Routes without a host get one.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.settings.domain
    }

    /// The name that hosts are to point to.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.settings.canonical()
    }

    /// The authority (PEM) of its default certificate, which is for its domain.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> String {
        said(self.cluster)
    }

    /// Ends it. Routes keep what it said in their status, as on OpenShift.
    ///
    /// # Errors
    /// Names what was not removed.
    pub fn stop(self) -> Result<()> {
        for (kind, name) in [
            ("namespace", NAMESPACE),
            ("clusterrolebinding", objects::ROLE),
            ("clusterrole", objects::ROLE),
        ] {
            kubectl(self.cluster, &["delete", kind, name, "--timeout=90s"])?;
        }
        Ok(())
    }
}

fn said(cluster: &Cluster) -> String {
    let deployment = format!("deployment/{DEPLOYMENT}");
    let logs = ["-n", NAMESPACE, "logs", &deployment, "--tail=40"];
    let pods = ["-n", NAMESPACE, "get", "pods", "-o", "wide"];
    [&pods[..], &logs[..]]
        .into_iter()
        .map(|command| match cluster.kubectl(command) {
            Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into(),
            Err(error) => error.to_string(),
        })
        .collect::<Vec<String>>()
        .join("\n")
}

fn node_port(cluster: &Cluster, name: &str) -> Result<u16> {
    let path = format!("jsonpath={{.spec.ports[?(@.name=='{name}')].nodePort}}");
    let get = ["-n", NAMESPACE, "get", "service", DEPLOYMENT, "-o", &path];
    let port = kubectl(cluster, &get)?;
    port.parse().with_context(|| format!("node port {port:?}"))
}

fn load_image(cluster: &Cluster) -> Result<()> {
    let (router, haproxy) = (build::router()?.join("router"), build::haproxy()?);
    // Libraries and the one program; of the packages' other files none is needed.
    let mut base: Vec<Entry> = ["lib", "lib64", "usr/lib"]
        .into_iter()
        .filter(|dir| haproxy.join(dir).exists())
        .map(|dir| Entry::Tree(dir.into(), haproxy.join(dir)))
        .collect();
    let program = "usr/sbin/haproxy";
    base.push(Entry::File(program.into(), haproxy.join(program), 0o755));
    let config = ImageConfig {
        entrypoint: vec!["/router".into()],
        ..ImageConfig::default()
    };
    let own = vec![Entry::File("/router".into(), router, 0o755)];
    who::load(cluster, IMAGE, &[base, own], &config)
}
