//! The peer outside of a cluster: what it reaches, as whom, and that nothing of it stays.
#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use postern_cluster::{Cluster, ECHO_IMAGE, Gone, Options, Outside};

const LOCAL: u16 = 30080;
const ANYWHERE: u16 = 30081;

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("Uid:")).unwrap();
    line.split_whitespace().nth(2) == Some("0")
}

fn workload() -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: echo, labels: {{app: echo}}}}
spec:
  containers:
  - name: main
    image: {ECHO_IMAGE}
    env:
    - {{name: POD_NAME, value: echo}}
    - {{name: NAMESPACE, value: default}}
---
apiVersion: v1
kind: Service
metadata: {{name: local}}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {{app: echo}}
  ports: [{{port: 80, targetPort: 3000, nodePort: {LOCAL}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: anywhere}}
spec:
  type: NodePort
  selector: {{app: echo}}
  ports: [{{port: 80, targetPort: 3000, nodePort: {ANYWHERE}}}]
"
    )
}

/// The status of an answer; none without one.
fn get(outside: &Outside<'_>, target: SocketAddr, path: &str) -> Option<String> {
    let limit = Duration::from_secs(2);
    let mut stream = outside.dial(target, limit).ok()?;
    stream.set_read_timeout(Some(limit)).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: echo\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1).map(str::to_owned)
}

fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ask() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn admin(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.kubectl(arguments).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whom the echo says that it answered on this path.
fn client(cluster: &Cluster, path: &str) -> Ipv4Addr {
    let log = admin(cluster, &["logs", "echo"]);
    let line = log.lines().find(|line| line.contains(path)).unwrap();
    let address = line.split("to client (").nth(1).unwrap();
    address.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_peer_outside_reaches_the_nodes_ports_as_itself() {
    if !is_root() {
        eprintln!("not run: needs root");
        return;
    }
    let name = format!("to-{}", std::process::id());
    let _gone = Gone(name.clone());
    let cluster = Cluster::up(&name, &Options::default()).unwrap();
    let outside = cluster.outside().unwrap();
    // Asked for again it is the same one.
    assert_eq!(cluster.outside().unwrap().namespace(), outside.namespace());
    let output = cluster
        .kubectl_as(&cluster.kubeconfig(), &["apply", "-f", "-"], &workload())
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let ready = ["wait", "--for=condition=Ready", "pod/echo", "--timeout=60s"];
    admin(&cluster, &ready);

    let at = |port: u16| SocketAddr::from((outside.node(), port));
    let answers = |port, path| get(&outside, at(port), path).as_deref() == Some("200");
    eventually("the port of policy Local answers", || {
        answers(LOCAL, "/local")
    });
    assert_eq!(client(&cluster, "/local"), outside.address());
    eventually("the port of policy Cluster answers", || {
        answers(ANYWHERE, "/anywhere")
    });
    // There the client's address is lost: what was seen before is no accident.
    assert_ne!(client(&cluster, "/anywhere"), outside.address());

    // The second address is another client.
    let url = format!("http://{}/second", at(LOCAL));
    let second = outside.second_address().to_string();
    let curl = [
        "curl",
        "-sS",
        "--max-time",
        "5",
        "--interface",
        &second,
        &url,
    ];
    let output = outside.exec(&curl).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(client(&cluster, "/second"), outside.second_address());

    // Who is outside learns of the node by ARP, and has no way to pods, Services and beyond.
    assert!(outside.neighbour(outside.node()).unwrap().is_some());
    assert_eq!(
        outside.neighbour(Ipv4Addr::new(198, 18, 0, 77)).unwrap(),
        None
    );
    let pod = admin(
        &cluster,
        &["get", "pod", "echo", "-o", "jsonpath={.status.podIP}"],
    );
    let pod = SocketAddr::from((pod.parse::<Ipv4Addr>().unwrap(), 3000));
    assert!(cluster.dial(pod, Duration::from_secs(2)).is_ok());
    for hidden in [pod, SocketAddr::from(([192, 0, 2, 1], 80))] {
        let error = outside.dial(hidden, Duration::from_secs(2)).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("unreachable"), "{error}");
    }

    let namespace = outside.namespace();
    let mut left = outside.command("sleep").arg("600").spawn().unwrap();
    cluster.down().unwrap();
    assert!(!left.wait().unwrap().success(), "it outlived its namespace");
    assert!(!Path::new(&namespace).exists());
    assert_eq!(Cluster::leftovers(&name).unwrap(), Vec::<String>::new());
}
