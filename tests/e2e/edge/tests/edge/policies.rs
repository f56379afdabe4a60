//! NetworkPolicies in front of a backend, and the router.

use std::time::Duration;

use postern_edge::{Ask, Mode};
use serde_json::{Value, json};

use super::serving::until;
use super::{Stage, admin, apply, eventually};

/// Policies as Postern's: pods that routers may reach, and nobody else.
pub fn tell_routers_apart(stage: &Stage<'_>) {
    let cluster = stage.cluster;
    let outside = &cluster.outside().unwrap();
    let peer = |label: &str| json!([{"namespaceSelector": {"matchLabels": {label: ""}}, "podSelector": {}}]);
    let policy = |from: Value| {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "routers", "namespace": "team-a"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "who"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": from, "ports": [{"protocol": "TCP", "port": 8080}]}],
            },
        })
    };
    let get = [
        "-n",
        "team-a",
        "get",
        "pod",
        "who",
        "-o",
        "jsonpath={.status.podIP}",
    ];
    let pod = admin(cluster, &get);
    let url = format!("http://{pod}:8080/");
    let neighbour = || {
        let ask = [
            "-n",
            "team-b",
            "exec",
            "who",
            "--",
            "/who",
            "ask",
            "-timeout=2s",
            &url,
        ];
        cluster.kubectl(&ask).unwrap().status.success()
    };
    let ask = Ask::new("https://own.example.test/", stage.https());
    assert!(neighbour(), "nothing keeps it out yet");
    // With another label the router is a stranger too: it is the label that lets it in. On the
    // node's network it always gets in, as the node does.
    if stage.router.mode() == Mode::PodNetwork {
        apply(cluster, &[policy(peer("somebody.example.test"))]);
        let mut seconds = 20;
        eventually("the router is kept out", || {
            // Policies leave open connections alone, and a new HAProxy has none yet.
            seconds += 1;
            let timeout = format!("haproxy.router.openshift.io/timeout={seconds}s");
            let own = ["-n", "team-a", "annotate", "--overwrite", "route", "own"];
            admin(cluster, &[&own[..], &[&timeout]].concat());
            std::thread::sleep(Duration::from_secs(1));
            match ask.ask(outside) {
                Ok(answer) if answer.status == 200 => Err(format!("{answer:?}")),
                _ => Ok(()),
            }
        });
    }
    apply(
        cluster,
        &[policy(peer("policy-group.network.openshift.io/ingress"))],
    );
    until(outside, &ask, 200);
    eventually("a neighbour is kept out", || {
        if neighbour() {
            Err("it gets in".to_owned())
        } else {
            Ok(())
        }
    });
    until(outside, &ask, 200);
    admin(
        cluster,
        &["-n", "team-a", "delete", "networkpolicy", "routers"],
    );
    until(outside, &ask, 200);
}
