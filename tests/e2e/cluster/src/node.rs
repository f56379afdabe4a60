//! The full variant: a node in namespaces of its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::binaries::Binaries;
use crate::config::{Config, DNS_READY, NODE, PAUSE_IMAGE, PROXY_HEALTH};
use crate::image::{Entry, ImageConfig, oci_archive};
use crate::layout::{Layout, State, write_private};
use crate::names::Name;
use crate::process::{Parts, log_says};
use crate::progress::Progress;
use crate::start::{
    Settings, kubectl, must, save_identities, start, start_control_plane, wait_for_api,
};
use crate::{cgroups, forward, netns};

/// The conformance suite's backend.
pub const ECHO_IMAGE: &str = "postern.test/echo-basic:dev";
/// Asks one question from inside a pod, or waits to be asked to: `/probe wait`,
/// `/probe http://HOST/PATH`, `/probe tcp://HOST:PORT`, `/probe dns://NAME`.
pub const PROBE_IMAGE: &str = "postern.test/probe:dev";

/// A user that is not root, as the restricted profile asks.
const SOMEBODY: &str = "65532";
const LIMIT: Duration = Duration::from_secs(60);
/// Who talks to the API server, each with a certificate of its own.
const IDENTITIES: [&str; 6] = [
    "controller-manager",
    "scheduler",
    "proxy",
    "kubelet",
    "coredns",
    "netpol",
];

pub(crate) fn up(layout: &Layout, settings: &Settings, progress: &Progress) -> Result<State> {
    let binaries = &settings.binaries;
    let path = binaries.path();
    // The API server gets the number of a port that is free outside, so that one kubeconfig works
    // outside, through a forward, and inside.
    let (listener, port) = forward::listen(0)?;
    let config = settings.config(layout, port);
    let mut state = settings.state(port);
    layout.create()?;
    layout.save(&state)?;
    save_identities(&config, &IDENTITIES)?;
    save_files(&config)?;

    cgroups::create(&layout.name)?;
    netns::create(layout, &settings.addresses, &path)?;
    let init = netns::start_init(layout, &binaries.program("pause"), &path)?;
    state.init = Some(init.clone());
    layout.save(&state)?;
    let inside = netns::enter_node(&init);
    progress.stage("namespaces made");

    let mut parts = Parts::new(layout);
    start_control_plane(&mut parts, &config, Some(&inside))?;
    start(
        &mut parts,
        &config,
        Some(&inside),
        "containerd",
        &config.containerd(),
    )?;
    let api = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    forward::start(layout, binaries, listener, api)?;
    make_images(layout, binaries)?;
    wait_for_containerd(&config, &parts)?;
    // Of the images only the sandboxes' must be there before the kubelet starts.
    load_image(layout, binaries, &layout.at("images/pause.tar"))?;
    wait_for_api(&config, &parts)?;
    progress.stage("API server ready");

    for (part, arguments) in [
        ("kubelet", config.kubelet()),
        ("kube-controller-manager", config.controller_manager()),
        ("kube-scheduler", config.scheduler()),
        ("kube-proxy", config.proxy()),
    ] {
        start(&mut parts, &config, Some(&inside), part, &arguments)?;
    }
    apply(&config, &config.rbac())?;
    start(
        &mut parts,
        &config,
        Some(&inside),
        "coredns",
        &config.coredns(),
    )?;
    for image in ["echo-basic.tar", "probe.tar"] {
        load_image(layout, binaries, &layout.at("images").join(image))?;
    }
    progress.stage("all parts started");
    wait_for_node(&config, &parts)?;
    progress.stage("node Ready");
    // It looks its node up when it starts.
    start(
        &mut parts,
        &config,
        Some(&inside),
        "netpol",
        &config.netpol(),
    )?;
    wait_for_network(&config, &parts)?;
    progress.stage("Services, DNS and network policies at work");
    state.processes = parts.started().to_vec();
    Ok(state)
}

fn save_files(config: &Config<'_>) -> Result<()> {
    let layout = config.layout;
    fs::create_dir_all(layout.at("etc/cni"))?;
    // The kubelet walks this folder for plugins.
    fs::create_dir_all(layout.at("kubelet/volume-plugins"))?;
    let pretty = |value: &Value| serde_json::to_vec_pretty(value);
    for (file, bytes) in [
        ("etc/kubelet.json", pretty(&config.kubelet_file())?),
        ("etc/containerd.toml", config.containerd_file().into_bytes()),
        ("etc/cni/10-pods.conflist", pretty(&config.cni_file())?),
        ("etc/Corefile", config.corefile().into_bytes()),
        ("hosts", Vec::new()),
    ] {
        write_private(&layout.at(file), &bytes)?;
    }
    Ok(())
}

fn make_images(layout: &Layout, binaries: &Binaries) -> Result<()> {
    for (file, name, program) in [
        ("pause.tar", PAUSE_IMAGE, "pause"),
        ("echo-basic.tar", ECHO_IMAGE, "echo-basic"),
        ("probe.tar", PROBE_IMAGE, "probe"),
    ] {
        let inside = Path::new("/").join(program);
        let config = ImageConfig {
            entrypoint: vec![inside.display().to_string()],
            user: SOMEBODY.to_owned(),
            ..ImageConfig::default()
        };
        let layer = vec![Entry::File(inside, binaries.program(program), 0o755)];
        oci_archive(&layout.at("images").join(file), name, &[layer], &config)?;
    }
    Ok(())
}

fn ctr(layout: &Layout, binaries: &Binaries, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries.program("ctr"));
    // The socket's path is absolute; with a relative one ctr fails ("invalid authority").
    command
        .arg("--address")
        .arg(layout.containerd_socket())
        .args(["--namespace", "k8s.io"])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Gives the node an image.
pub(crate) fn load_image(layout: &Layout, binaries: &Binaries, archive: &Path) -> Result<()> {
    let file = archive.display().to_string();
    let output = ctr(layout, binaries, &["images", "import", &file]).output()?;
    must(&format!("import of {file}"), output)?;
    Ok(())
}

fn apply(config: &Config<'_>, document: &Value) -> Result<()> {
    let mut child = kubectl(config.layout, config.binaries, &config.layout.kubeconfig())
        .args(["apply", "--server-side", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut to = child.stdin.take().context("no standard input")?;
    to.write_all(document.to_string().as_bytes())?;
    drop(to);
    must("kubectl apply", child.wait_with_output()?)?;
    Ok(())
}

fn wait_for_containerd(config: &Config<'_>, parts: &Parts<'_>) -> Result<()> {
    parts.wait("containerd answers", "containerd", LIMIT, || {
        let asked = ctr(config.layout, config.binaries, &["version"]).output()?;
        Ok(asked.status.success())
    })
}

/// The node's condition, and the ServiceAccount that pods of the default namespace run as.
fn wait_for_node(config: &Config<'_>, parts: &Parts<'_>) -> Result<()> {
    let asks = |arguments: &[&str]| -> Result<String> {
        let output = kubectl(config.layout, config.binaries, &config.layout.kubeconfig())
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let condition = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    parts.wait("the node is Ready", "kubelet", LIMIT, || {
        Ok(asks(&["get", "node", NODE, "-o", condition])? == "True")
    })?;
    let account = ["get", "serviceaccount", "default", "-o", "name"];
    parts.wait(
        "the default ServiceAccount is made",
        "kube-controller-manager",
        LIMIT,
        || Ok(!asks(&account)?.is_empty()),
    )
}

fn wait_for_network(config: &Config<'_>, parts: &Parts<'_>) -> Result<()> {
    let name = &config.layout.name;
    parts.wait(
        "kube-proxy's rules are in place",
        "kube-proxy",
        LIMIT,
        || answers(name, PROXY_HEALTH, "/healthz"),
    )?;
    parts.wait("CoreDNS is ready", "coredns", LIMIT, || {
        answers(name, DNS_READY, "/ready")
    })?;
    parts.wait("network policies are watched", "netpol", LIMIT, || {
        Ok(log_says(config.layout, "netpol", "netpol: syncing"))
    })
}

/// Whether a plain HTTP server inside says 200; one that is not there yet says no.
fn answers(name: &Name, address: &str, path: &str) -> Result<bool> {
    let limit = Duration::from_secs(2);
    let Ok(mut stream) = netns::dial(name, address.parse()?, limit) else {
        return Ok(false);
    };
    stream.set_read_timeout(Some(limit))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let mut answer = Vec::new();
    let read = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read_to_end(&mut answer));
    let status = String::from_utf8_lossy(&answer);
    Ok(read.is_ok() && status.split(' ').nth(1) == Some("200"))
}
