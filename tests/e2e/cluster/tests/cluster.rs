//! Real clusters: what they do, and that nothing of them stays.
#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use postern_cluster::{Channel, Cluster, ECHO_IMAGE, Gone, Options, PROBE_IMAGE};

fn name(of: &str) -> (String, Gone) {
    let name = format!("t{of}-{}", std::process::id());
    (name.clone(), Gone(name))
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("Uid:")).unwrap();
    line.split_whitespace().nth(2) == Some("0")
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(all).unwrap()
}

fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn admin(cluster: &Cluster, arguments: &[&str]) -> String {
    ok(cluster.kubectl(arguments).unwrap())
}

fn apply(cluster: &Cluster, yaml: &str) {
    let arguments = ["apply", "-f", "-"];
    ok(cluster
        .kubectl_as(&cluster.kubeconfig(), &arguments, yaml)
        .unwrap());
}

/// Asks again until the answer is the wanted one.
fn eventually(what: &str, mut ask: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !ask() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    begun.elapsed()
}

/// What a machine could have kept of a cluster, outside of all that has the cluster's name.
fn machine() -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir("/sys/class/net").unwrap() {
        let link = entry.unwrap().file_name().into_string().unwrap();
        seen.insert(format!("link {link}"));
    }
    for path in [
        "/etc/cni",
        "/opt/cni",
        "/opt/containerd",
        "/run/containerd",
        "/run/flannel",
        "/run/kubernetes",
        "/run/netns",
        "/run/runc",
        "/run/xtables.lock",
        "/usr/libexec/kubernetes",
        "/var/lib/cni",
        "/var/lib/containerd",
        "/var/lib/kubelet",
        "/var/lib/kube-proxy",
        "/var/log/containers",
        "/var/log/pods",
    ] {
        if Path::new(path).exists() {
            seen.insert(format!("path {path}"));
        }
    }
    for value in [
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "net/ipv4/ip_forward",
        "net/netfilter/nf_conntrack_max",
    ] {
        let now = fs::read_to_string(Path::new("/proc/sys").join(value)).unwrap_or_default();
        seen.insert(format!("sysctl {value}={}", now.trim()));
    }
    seen
}

/// Everything on the machine that names the cluster, found in other ways than the driver's own.
fn traces(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let word = format!("postern-{name}");
    let folder = format!("/clusters/{name}");
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().into_string().unwrap();
        if pid.parse::<u32>().is_err() || pid == std::process::id().to_string() {
            continue;
        }
        for file in ["cmdline", "mountinfo", "cgroup"] {
            let said = fs::read(entry.path().join(file)).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            if said.contains(&word) || said.contains(&folder) {
                found.push(format!("/proc/{pid}/{file}"));
            }
        }
    }
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(
        own.lines()
            .filter(|line| line.contains(&word) || line.contains(&folder))
            .map(str::to_owned),
    );
    for root in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let group = root.path().join(&word);
        if group.exists() {
            found.push(group.display().to_string());
        }
    }
    for file in [
        format!("/sys/fs/cgroup/{word}"),
        format!("/run/netns/{word}"),
    ] {
        if Path::new(&file).exists() {
            found.push(file);
        }
    }
    found
}

fn namespace(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: \
         {{pod-security.kubernetes.io/enforce: restricted}}}}}}\n---\n"
    )
}

fn pod(name: &str, image: &str, arguments: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  securityContext:
    runAsNonRoot: true
    seccompProfile: {{type: RuntimeDefault}}
  containers:
  - name: main
    image: {image}
    args: [{arguments}]
    env:
    - {{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: NAMESPACE, valueFrom: {{fieldRef: {{fieldPath: metadata.namespace}}}}}}
    securityContext:
      allowPrivilegeEscalation: false
      capabilities: {{drop: [ALL]}}
---
"
    )
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{port: 80, targetPort: 3000}]
";

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress]}
";

const ALLOW: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow}
spec:
  podSelector: {matchLabels: {app: echo}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: friend}}}]
    ports: [{port: 3000}]
";

/// Asks from inside a pod.
fn probe(cluster: &Cluster, pod: &str, target: &str) -> Output {
    let arguments = [
        "-n",
        "team-a",
        "exec",
        pod,
        "--",
        "/probe",
        "-timeout=2s",
        target,
    ];
    cluster.kubectl(&arguments).unwrap()
}

fn reaches(cluster: &Cluster, pod: &str) -> bool {
    probe(cluster, pod, "http://echo/").status.success()
}

fn workload(cluster: &Cluster) {
    apply(cluster, &namespace("team-a"));
    let pods = [
        pod("echo", ECHO_IMAGE, ""),
        pod("friend", PROBE_IMAGE, "wait"),
        pod("stranger", PROBE_IMAGE, "wait"),
        SERVICE.to_owned(),
    ];
    let create = ["-n", "team-a", "apply", "-f", "-"];
    eventually("the namespace's ServiceAccount", || {
        let output = cluster
            .kubectl_as(&cluster.kubeconfig(), &create, &pods.concat())
            .unwrap();
        output.status.success()
    });
    let limit = "--timeout=60s";
    let ready = [
        "-n",
        "team-a",
        "wait",
        "--for=condition=Ready",
        "pod",
        "--all",
        limit,
    ];
    admin(cluster, &ready);
}

/// Pods of the restricted profile, a Service, and the names of both.
fn services_and_names(cluster: &Cluster) {
    let bare = "{apiVersion: v1, kind: Pod, metadata: {name: bare, namespace: team-a}, \
                spec: {containers: [{name: a, image: postern.test/probe:dev}]}}";
    let refused = cluster
        .kubectl_as(&cluster.kubeconfig(), &["apply", "-f", "-"], bare)
        .unwrap();
    assert!(!refused.status.success());
    assert!(
        text(&refused).contains("violates PodSecurity"),
        "{}",
        text(&refused)
    );

    eventually("the Service answers by its name", || {
        reaches(cluster, "friend")
    });
    let answer = ok(probe(
        cluster,
        "friend",
        "http://echo.team-a.svc.cluster.local/x",
    ));
    assert!(answer.starts_with("200\n"), "{answer}");
    assert!(answer.contains("\"pod\": \"echo\""), "{answer}");
    let ip = service_ip(cluster);
    assert_eq!(
        ok(probe(cluster, "friend", "dns://echo.team-a.svc")).trim(),
        ip
    );
    let unknown = probe(cluster, "friend", "dns://no-such-name.example.com");
    assert!(
        text(&unknown).contains("no such host"),
        "{}",
        text(&unknown)
    );
    fs::write(
        cluster.state_dir().join("hosts"),
        "203.0.113.9 known.example.com\n",
    )
    .unwrap();
    eventually("a name of the hosts file is known", || {
        text(&probe(cluster, "friend", "dns://known.example.com")).trim() == "203.0.113.9"
    });
}

fn service_ip(cluster: &Cluster) -> String {
    let path = "jsonpath={.spec.clusterIP}";
    admin(
        cluster,
        &["-n", "team-a", "get", "service", "echo", "-o", path],
    )
}

/// A deny denies, an allow lets in whom it names and nobody else.
fn network_policies(cluster: &Cluster) {
    let policy = |act: &str, yaml: &str| {
        let arguments = ["-n", "team-a", act, "-f", "-"];
        ok(cluster
            .kubectl_as(&cluster.kubeconfig(), &arguments, yaml)
            .unwrap());
    };
    assert!(reaches(cluster, "friend") && reaches(cluster, "stranger"));
    policy("apply", DENY);
    let took = eventually("a deny denies", || !reaches(cluster, "friend"));
    eprintln!("default deny in force {took:?} after it was applied");
    assert!(!reaches(cluster, "stranger"));
    policy("apply", ALLOW);
    eventually("an allow allows", || reaches(cluster, "friend"));
    assert!(
        !reaches(cluster, "stranger"),
        "it allows whom it does not name"
    );
    policy("delete", ALLOW);
    eventually("it denies again", || !reaches(cluster, "friend"));
    policy("delete", DENY);
    eventually("all is allowed again", || reaches(cluster, "stranger"));
}

/// A user may do what a stock role says in a namespace, and nothing elsewhere.
fn tenants(cluster: &Cluster) {
    apply(cluster, &namespace("team-b"));
    let arguments = ["-n", "team-a", "create", "rolebinding", "edit"];
    admin(
        cluster,
        &[&arguments[..], &["--clusterrole=edit", "--group=team-a"]].concat(),
    );
    let alice = cluster
        .kubeconfig_for("alice@example.com", &["auditors", "team-a"])
        .unwrap();
    let as_alice = |arguments: &[&str]| cluster.kubectl_as(&alice, arguments, "").unwrap();
    eventually("the role holds its rules", || {
        as_alice(&["-n", "team-a", "create", "configmap", "mine"])
            .status
            .success()
    });
    ok(as_alice(&["-n", "team-a", "get", "secrets"]));
    for refused in [
        &["-n", "team-b", "get", "secrets"][..],
        &["-n", "team-b", "create", "configmap", "mine"],
        &["get", "nodes"],
        &["-n", "team-a", "get", "secrets", "--as=admin"],
    ] {
        let output = as_alice(refused);
        assert!(!output.status.success(), "alice may {refused:?}");
        assert!(
            text(&output).to_lowercase().contains("forbidden"),
            "{}",
            text(&output)
        );
    }
    // Without a certificate of this cluster nobody is anybody.
    let own = fs::read_to_string(&alice).unwrap();
    let nobody = cluster.state_dir().join("nobody");
    let mut config: serde_json::Value = serde_json::from_str(&own).unwrap();
    config["users"][0]["user"] = serde_json::json!({});
    fs::write(&nobody, config.to_string()).unwrap();
    let output = cluster
        .kubectl_as(&nobody, &["-n", "team-a", "get", "secrets"], "")
        .unwrap();
    assert!(!output.status.success());
}

fn controllers(cluster: &Cluster) {
    // Garbage collection: what is owned goes with its owner.
    let make = ["-n", "team-a", "create", "configmap"];
    admin(cluster, &[&make[..], &["owner"]].concat());
    let uid = [
        "-n",
        "team-a",
        "get",
        "configmap",
        "owner",
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    let uid = admin(cluster, &uid);
    apply(
        cluster,
        &format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: owned, namespace: team-a, \
             ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]}}}}"
        ),
    );
    admin(cluster, &["-n", "team-a", "get", "configmap", "owned"]);
    admin(cluster, &["-n", "team-a", "delete", "configmap", "owner"]);
    eventually("what is owned goes", || {
        let output = cluster.kubectl(&["-n", "team-a", "get", "configmap", "owned"]);
        !output.unwrap().status.success()
    });
}

fn gateway_api(cluster: &Cluster, channel: Channel, kind: &str) {
    let dir = cluster.gateway_api_crds(channel).display().to_string();
    admin(cluster, &["apply", "--server-side", "-f", &dir]);
    let crd = format!("crd/{kind}.gateway.networking.k8s.io");
    let wait = ["wait", "--for=condition=Established", &crd, "--timeout=30s"];
    admin(cluster, &wait);
}

/// The cluster's network has no way out, and ways in only where one was made.
fn the_way_in(cluster: &Cluster) -> u16 {
    let links = ok(cluster.exec(&["ip", "-o", "link"]).unwrap());
    let names: Vec<_> = links
        .lines()
        .map(|line| line.split([':', '@']).nth(1).unwrap().trim().to_owned())
        .filter(|name| !name.starts_with("veth"))
        .collect();
    assert_eq!(names, ["lo", "node0", "cni0"]);
    // The same kubeconfig works in there.
    let ready = ok(cluster.exec(&["kubectl", "get", "--raw=/readyz"]).unwrap());
    assert_eq!(ready, "ok");

    let service: SocketAddr = format!("{}:80", service_ip(cluster)).parse().unwrap();
    let limit = Duration::from_secs(2);
    assert!(get(cluster.dial(service, limit).unwrap()).starts_with("HTTP/1.1 200"));
    let port = cluster.forward(&service.to_string()).unwrap();
    let outside = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert!(get(outside).contains("\"pod\": \"echo\""));
    // Where nobody listens, a forward says so by a reset.
    let nobody = cluster.forward("198.18.0.10:9").unwrap();
    let mut outside = TcpStream::connect((Ipv4Addr::LOCALHOST, nobody)).unwrap();
    outside
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let error = outside.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    port
}

fn get(mut stream: TcpStream) -> String {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn assert_nothing_left(name: &str) {
    assert_eq!(Cluster::leftovers(name).unwrap(), Vec::<String>::new());
    assert_eq!(traces(name), Vec::<String>::new());
    assert!(Cluster::open(name).is_err());
}

#[test]
fn a_node_does_what_clusters_do_and_goes_without_a_trace() {
    if !is_root() {
        eprintln!("not run: needs root");
        return;
    }
    let before = machine();
    let (name, _gone) = name("a");
    let cluster = Cluster::up(&name, &Options::default()).unwrap();
    let begun = Instant::now();
    let (second, _second_gone) = self::name("b");
    let beside = Cluster::up(&second, &Options::default()).unwrap();
    eprintln!("a warm start took {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(
        !traces(&name).is_empty(),
        "the search for traces finds nothing"
    );

    workload(&cluster);
    services_and_names(&cluster);
    network_policies(&cluster);
    tenants(&cluster);
    controllers(&cluster);
    gateway_api(&cluster, Channel::Standard, "httproutes");
    let port = the_way_in(&cluster);

    // The second one has the same addresses, its own pods, and loses its driver in the middle of a
    // start: nothing was written down.
    workload(&beside);
    fs::remove_file(beside.state_dir().join("cluster.json")).unwrap();
    assert!(Cluster::open(&second).is_err());
    drop(beside);
    Cluster::remove(&second).unwrap();
    assert_nothing_left(&second);

    // The first one does not mind, and another process may take it over.
    drop(cluster);
    let again = Cluster::open(&name).unwrap();
    assert!(reaches(&again, "friend"));
    let same = Cluster::up(&name, &Options::default()).unwrap();
    assert_eq!(same.kubeconfig(), again.kubeconfig());
    again.down().unwrap();
    assert_nothing_left(&name);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    let after = machine();
    let difference: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(difference.is_empty(), "the machine differs: {difference:?}");
    // Twice is once.
    Cluster::remove(&name).unwrap();
}

#[test]
fn a_light_one_is_an_api_server_and_goes_without_a_trace() {
    let (name, _gone) = name("l");
    let options = Options {
        light: true,
        ..Options::default()
    };
    let cluster = Cluster::up(&name, &options).unwrap();
    assert_eq!(admin(&cluster, &["get", "--raw=/readyz"]), "ok");
    gateway_api(&cluster, Channel::Experimental, "tcproutes");

    let role = [
        "create",
        "role",
        "own",
        "--verb=create",
        "--resource=configmaps",
    ];
    admin(&cluster, &role);
    admin(
        &cluster,
        &["create", "rolebinding", "own", "--role=own", "--user=alice"],
    );
    let alice = cluster.kubeconfig_for("alice", &[]).unwrap();
    let make = ["create", "configmap", "mine"];
    eventually("the binding is seen", || {
        let output = cluster.kubectl_as(&alice, &make, "").unwrap();
        output.status.success()
    });
    let refused = cluster.kubectl_as(&alice, &["get", "secrets"], "").unwrap();
    assert!(
        text(&refused).to_lowercase().contains("forbidden"),
        "{}",
        text(&refused)
    );

    assert!(cluster.load_image(Path::new("/no.tar")).is_err());
    assert!(cluster.forward("127.0.0.1:1").is_err());
    let other = Options::default();
    assert!(Cluster::up(&name, &other).is_err(), "it is of another kind");

    // A start that dies before anything was written down is taken away as well.
    fs::remove_file(cluster.state_dir().join("cluster.json")).unwrap();
    assert!(Cluster::leftovers(&name).unwrap().len() > 2);
    cluster.down().unwrap();
    assert_nothing_left(&name);
}
