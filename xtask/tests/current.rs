//! `make run CLUSTER=current` on a cluster of somebody's: it says what it does and to whom, keeps its
//! hands off what is others', and takes away all that it made.
//!
//! The cluster is one of ours, which `xtask` knows by its kubeconfig alone. `POSTERN_E2E=off` leaves it
//! out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use postern_cluster::{Cluster, Gone, Options};
use tempfile::TempDir;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// A person's machine: a kubeconfig, and a kubectl on PATH.
struct Person {
    dir: TempDir,
    path: String,
}

impl Person {
    fn new() -> Person {
        Person {
            dir: tempfile::tempdir().unwrap(),
            path: std::env::var("PATH").unwrap(),
        }
    }

    /// Whose current context is this cluster.
    fn of(cluster: &Cluster) -> Person {
        let mut person = Person::new();
        fs::copy(cluster.kubeconfig(), person.kubeconfig()).unwrap();
        let kubectl = PathBuf::from(cluster.kubectl_command().get_program());
        let folder = kubectl.parent().unwrap().display();
        person.path = format!("{folder}:{}", person.path);
        person
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    fn xtask(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(XTASK);
        for name in ["CLUSTER", "IMAGES", "INSTALL"] {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("PATH", &self.path)
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    /// What it says on standard error, in a line, instead of doing anything.
    fn refused(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let output = self.xtask(arguments, environment);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success(),
            "{environment:?} was taken: {told}"
        );
        let lines: Vec<&str> = told.lines().collect();
        let [line] = lines[..] else {
            panic!("not one line: {told}");
        };
        line.strip_prefix("error: ").unwrap().to_owned()
    }

    /// What it prints while it does what it was told.
    fn done(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let output = self.xtask(arguments, environment);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}{wrong}");
        told
    }
}

#[test]
fn what_is_asked_wrongly_is_told_in_a_line() {
    let person = Person::new();
    let kubeconfig = |text: &str| fs::write(person.kubeconfig(), text).unwrap();
    let current = ("CLUSTER", "current");
    let load = ("IMAGES", "load:true");
    let run = |environment: &[(&str, &str)]| person.refused(&["run"], environment);

    let other = run(&[("CLUSTER", "kind-a")]);
    assert!(other.contains("only CLUSTER=current"), "{other}");
    let other = person.refused(&["stop"], &[("CLUSTER", "kind-a")]);
    assert!(other.contains("only CLUSTER=current"), "{other}");
    let none = run(&[current]);
    assert!(
        none.contains("needs IMAGES") && none.contains("push:REGISTRY"),
        "{none}"
    );
    let neither = run(&[current, ("IMAGES", "registry.example/x")]);
    assert!(
        neither.contains("neither push:REGISTRY nor load:COMMAND"),
        "{neither}"
    );
    let scheme = run(&[current, ("IMAGES", "push:https://registry.example")]);
    assert!(scheme.contains("without https://"), "{scheme}");
    let useless = run(&[load]);
    assert!(
        useless.contains("only the cluster of CLUSTER=current"),
        "{useless}"
    );
    let install = run(&[("INSTALL", "helm")]);
    assert!(install.contains("neither manifests nor olm"), "{install}");

    if Command::new("kubectl").arg("--help").output().is_err() {
        println!("not run: kubeconfigs that lead nowhere: there is no kubectl on PATH");
        return;
    }
    let nothing = run(&[current, load]);
    assert!(nothing.contains("has no current context"), "{nothing}");
    kubeconfig("{apiVersion: v1, kind: Config, current-context: gone}");
    let gone = run(&[current, load]);
    assert!(gone.contains("\"gone\" names no cluster"), "{gone}");
    // A port of this machine where nobody listens: it was free a moment ago.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    kubeconfig(&format!(
        "{{apiVersion: v1, kind: Config, current-context: down, \
          contexts: [{{name: down, context: {{cluster: c, user: u}}}}], users: [{{name: u, user: {{}}}}], \
          clusters: [{{name: c, cluster: {{server: 'https://{free}'}}}}]}}"
    ));
    for task in ["run", "stop"] {
        let down = person.refused(&[task], &[current, load]);
        assert!(down.contains("cannot be asked"), "{down}");
        assert!(
            down.contains("context down") && down.contains(&free.to_string()),
            "{down}"
        );
    }
}

/// Everything that the cluster holds and people make: kind, namespace and name of each.
fn everything(cluster: &Cluster) -> BTreeSet<String> {
    let kinds = admin(cluster, &["api-resources", "--verbs=list", "-o", "name"]);
    let passing = |kind: &&str| kind.starts_with("events") || kind.starts_with("leases.");
    let kinds: Vec<&str> = kinds
        .split_whitespace()
        .filter(|kind| !passing(kind))
        .collect();
    let columns = "custom-columns=KIND:.kind,NS:.metadata.namespace,NAME:.metadata.name";
    let all = ["get", &kinds.join(","), "-A", "--no-headers", "-o", columns];
    // Controllers put these into each namespace, a moment after it was made.
    let given = |line: &str| {
        line.starts_with("ServiceAccount ") && line.ends_with(" default")
            || line.starts_with("ConfigMap ") && line.ends_with(" kube-root-ca.crt")
    };
    admin(cluster, &all)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !given(line))
        .collect()
}

fn admin(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.kubectl(arguments).unwrap();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {wrong}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn two_teams_come_to_somebodys_cluster_and_go_without_a_trace() {
    if !nix::unistd::geteuid().is_root() {
        println!("not run: two teams on the cluster of the current context: needs root");
        return;
    }
    if std::env::var("POSTERN_E2E").is_ok_and(|wish| wish == "off") {
        println!("not run: two teams on the cluster of the current context: POSTERN_E2E=off");
        return;
    }
    let started = Instant::now();
    let tell = |line: &str| println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    let name = format!("cur-{}", std::process::id());
    let _gone = Gone(name.clone());
    let cluster = Cluster::up(&name, &Options::default()).unwrap();
    let person = Person::of(&cluster);
    let load = format!("load:{XTASK} cluster {name} load");
    let run = |images: &str| {
        let environment = [("CLUSTER", "current"), ("IMAGES", images)];
        person.done(&["run", "--profile", "dev"], &environment)
    };
    let refused = |images: &str| {
        let environment = [("CLUSTER", "current"), ("IMAGES", images)];
        person.refused(&["run", "--profile", "dev"], &environment)
    };
    tell("somebody's cluster is up");

    // Somebody's namespace of a team's name, and somebody's grant of rights of a name of ours.
    admin(&cluster, &["create", "namespace", "team-b"]);
    admin(
        &cluster,
        &[
            "-n",
            "team-b",
            "create",
            "configmap",
            "mine",
            "--from-literal=a=b",
        ],
    );
    admin(
        &cluster,
        &[
            "create",
            "clusterrole",
            "postern-edit",
            "--verb=get",
            "--resource=pods",
        ],
    );
    let before = everything(&cluster);
    let told = refused(&load);
    assert!(
        told.contains("Namespace team-b") && told.contains("ClusterRole postern-edit"),
        "{told}"
    );
    assert!(told.contains("did not make and will not touch"), "{told}");
    let olm = person.refused(
        &["run"],
        &[
            ("CLUSTER", "current"),
            ("IMAGES", &load),
            ("INSTALL", "olm"),
        ],
    );
    assert!(olm.contains("has no OLM"), "{olm}");
    let nothing = person.done(&["stop"], &[("CLUSTER", "current")]);
    assert!(nothing.contains("Nothing of it is there"), "{nothing}");
    assert_eq!(everything(&cluster), before);
    tell("what is others' is refused, and nothing was written");

    admin(
        &cluster,
        &["delete", "namespace/team-b", "clusterrole/postern-edit"],
    );
    admin(&cluster, &["create", "namespace", "bystander"]);
    admin(
        &cluster,
        &[
            "-n",
            "bystander",
            "create",
            "configmap",
            "mine",
            "--from-literal=a=b",
        ],
    );
    let bystanders = || {
        admin(
            &cluster,
            &["get", "namespace/bystander", "-o", "jsonpath={.metadata}"],
        )
    };
    let (before, bystander) = (everything(&cluster), bystanders());
    let told = run(&load);
    println!("{told}");
    let server = admin(
        &cluster,
        &[
            "config",
            "view",
            "-o",
            "jsonpath={.clusters[0].cluster.server}",
        ],
    );
    assert!(told.contains(&server), "{told}");
    assert!(
        told.contains("both teams answer, asked through ports"),
        "{told}"
    );
    for team in ["team-a", "team-b"] {
        let path = "jsonpath={.status.conditions[?(@.type==\"Programmed\")].status}";
        let programmed = admin(
            &cluster,
            &["-n", team, "get", "gateway/default", "-o", path],
        );
        assert_eq!(programmed, "True", "{team}");
    }
    tell("two teams are served");
    lines_lead_to_the_teams(&person, &told);

    // Images are there by now: the command that loads them has nothing to do.
    let versions = || {
        let columns = "custom-columns=UID:.metadata.uid,GENERATION:.metadata.generation";
        let kinds = "namespaces,crd,clusterroles,gatewayinstances,httproutes,deployments,secrets";
        admin(
            &cluster,
            &["get", kinds, "-A", "--no-headers", "-o", columns],
        )
    };
    let first = versions();
    run("load:true");
    assert_eq!(versions(), first);
    tell("the same again changes nothing");

    // Who came to use it would lose what they have.
    let instance = "{apiVersion: postern.dev/v1alpha1, kind: GatewayInstance, \
                    metadata: {name: default, namespace: bystander}, \
                    spec: {listeners: [{name: http, port: 80, protocol: HTTP}]}}";
    let apply = ["apply", "-f", "-"];
    let applied = cluster
        .kubectl_as(&cluster.kubeconfig(), &apply, instance)
        .unwrap();
    assert!(applied.status.success(), "{applied:?}");
    let told = person.refused(&["stop"], &[("CLUSTER", "current")]);
    assert!(told.contains("GatewayInstance bystander/default"), "{told}");
    admin(
        &cluster,
        &["-n", "bystander", "delete", "gatewayinstance", "default"],
    );

    let told = person.done(&["stop"], &[("CLUSTER", "current")]);
    println!("{told}");
    assert!(told.contains("Nothing of it is left"), "{told}");
    // What the API server itself makes of definitions goes a moment after them.
    let asked = Instant::now();
    let mut after = everything(&cluster);
    while after != before && asked.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(500));
        after = everything(&cluster);
    }
    let added: Vec<_> = after.difference(&before).collect();
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(
        added.is_empty() && lost.is_empty(),
        "left: {added:#?}\nlost: {lost:#?}"
    );
    assert_eq!(bystanders(), bystander);
    tell("all that was made is gone, and what was there is as it was");
}

/// The first lines that are printed open ports, and the others answer there.
fn lines_lead_to_the_teams(person: &Person, told: &str) {
    let line = |word: &str| {
        let found = told.lines().find(|line| line.contains(word));
        found
            .unwrap_or_else(|| panic!("no line with {word}: {told}"))
            .to_owned()
    };
    let script = format!(
        "{}\nA=$!\n{}\nB=$!\ntrap 'kill $A $B' EXIT\n\
         for i in $(seq 50); do {} && {} && exit 0; sleep 0.2; done; exit 1",
        line("-n team-a port-forward"),
        line("-n team-b port-forward"),
        line("https://shop.team-a.example").replace("curl -s", "curl -sf"),
        line("/v1/items").replace("curl -s ", "curl -sf "),
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("KUBECONFIG", person.kubeconfig())
        .env("PATH", &person.path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}{wrong}");
    assert!(said.contains("shop-v") && said.contains("api"), "{said}");
}
