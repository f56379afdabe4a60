//! What Envoy does not take.

use super::*;

#[test]
fn a_refused_version_is_never_sent_again_and_a_newer_one_is() {
    let mut envoy = Envoy::with(&["Cluster/a@1"]);
    envoy.subscribe(Cluster, &[]);
    assert_eq!(envoy.nack(Cluster, "bad"), "");
    assert_eq!(envoy.events(), [refused(Cluster, &[("a", 1)], "bad")]);
    assert_eq!(envoy.push(&["Cluster/a@1", "Cluster/b@1"]), "Cluster +b@1");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.subscribe(Cluster, &["a"]), "");
    assert_eq!(envoy.push(&["Cluster/a@2", "Cluster/b@1"]), "Cluster +a@2");
    assert_eq!(envoy.ack(Cluster), "");
    // Back to the refused one.
    assert_eq!(envoy.push(&["Cluster/a@1", "Cluster/b@1"]), "");
    assert_eq!(envoy.push(&["Cluster/a@2", "Cluster/b@1"]), "");
}

#[test]
fn a_refused_change_leaves_the_old_one_which_can_still_be_removed() {
    let mut envoy = Envoy::with(&["Listener/a@1"]);
    envoy.subscribe(Listener, &[]);
    envoy.ack(Listener);
    assert_eq!(envoy.push(&["Listener/a@2"]), "Listener +a@2");
    assert_eq!(envoy.nack(Listener, "bad"), "");
    assert_eq!(envoy.push(&["Listener/a@1"]), "");
    assert_eq!(envoy.push(&["Listener/a@2"]), "");
    assert_eq!(envoy.push(&[]), "Listener -a");
}

#[test]
fn a_refused_response_is_halved_until_the_culprit_is_alone() {
    let lines = [
        "Cluster/a@1",
        "Cluster/b@1",
        "Cluster/c@1",
        "Cluster/d@1",
        "Cluster/e@1",
    ];
    let mut envoy = Envoy::with(&lines);
    let all = "Cluster +a@1 +b@1 +c@1 +d@1 +e@1";
    assert_eq!(envoy.subscribe(Cluster, &[]), all);
    assert_eq!(envoy.nack(Cluster, "c is bad"), "Cluster +a@1 +b@1");
    assert_eq!(envoy.ack(Cluster), "Cluster +c@1 +d@1 +e@1");
    assert_eq!(envoy.nack(Cluster, "c is bad"), "Cluster +c@1");
    assert_eq!(envoy.nack(Cluster, "c is bad"), "Cluster +d@1 +e@1");
    assert_eq!(envoy.ack(Cluster), "");
    let told = [
        acknowledged(Cluster, &[("a", 1), ("b", 1)], &[]),
        refused(Cluster, &[("c", 1)], "c is bad"),
        acknowledged(Cluster, &[("d", 1), ("e", 1)], &[]),
    ];
    assert_eq!(envoy.events(), told);
}

#[test]
fn suspects_that_change_are_no_suspects() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Cluster/b@1", "Cluster/c@1"]);
    envoy.subscribe(Cluster, &[]);
    assert_eq!(envoy.nack(Cluster, "no"), "Cluster +a@1");
    assert_eq!(envoy.push(&["Cluster/a@1", "Cluster/b@2"]), "");
    // Nobody knows whether Envoy took `c` in the first place.
    assert_eq!(envoy.ack(Cluster), "Cluster +b@2 -c");
    assert_eq!(envoy.ack(Cluster), "");
}

#[test]
fn what_envoy_may_have_taken_of_a_refused_response_is_not_relied_upon() {
    let mut envoy = Envoy::with(&["Cluster/a@1"]);
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Routes, &["r"]);
    envoy.ack(Cluster);
    envoy.ack(Routes);
    envoy.push(&["Cluster/a@2", "Cluster/b@1", "Routes/r@1 b"]);
    // Envoy may have `b`, which is not enough for the table, and either `a`.
    assert_eq!(
        envoy.push(&["Cluster/a@1", "Cluster/b@1", "Routes/r@1 b"]),
        ""
    );
    assert_eq!(envoy.nack(Cluster, "no"), "Cluster +b@1");
    assert_eq!(envoy.ack(Cluster), "Cluster +a@1; Routes +r@1");
}

#[test]
fn removals_in_a_refused_response_are_told_again_alone_and_once() {
    let mut envoy = Envoy::with(&["Listener/a@1"]);
    envoy.subscribe(Listener, &[]);
    envoy.ack(Listener);
    envoy.events();
    assert_eq!(envoy.push(&["Listener/b@1"]), "Listener +b@1 -a");
    assert_eq!(envoy.nack(Listener, "b"), "Listener -a");
    assert_eq!(envoy.nack(Listener, "a"), "");
    let kept = Event::Refused {
        kind: Listener,
        names: Vec::new(),
        removed: vec!["a".into()],
        detail: "a".to_owned(),
    };
    assert_eq!(envoy.events(), [refused(Listener, &[("b", 1)], "b"), kept]);
}

#[test]
fn the_reason_of_a_refusal_is_bounded() {
    let mut envoy = Envoy::with(&["Cluster/a@1"]);
    envoy.subscribe(Cluster, &[]);
    envoy.nack(Cluster, &format!("a\n\u{1b}[31m{}", "ö".repeat(MAX_DETAIL)));
    let events = envoy.events();
    let [Event::Refused { detail, .. }] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert!(detail.starts_with("a  [31mö"), "{detail}");
    assert!(detail.len() <= MAX_DETAIL && detail.len() > MAX_DETAIL - 4);
}

#[test]
fn endpoints_owed_to_a_cluster_that_warms_are_owed_until_envoy_takes_some() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Endpoints/a@1"]);
    envoy.subscribe(Cluster, &[]);
    envoy.ack(Cluster);
    envoy.subscribe(Endpoints, &["a"]);
    envoy.ack(Endpoints);
    assert_eq!(
        envoy.push(&["Cluster/a@2", "Endpoints/a@2"]),
        "Cluster +a@2; Endpoints +a@2"
    );
    envoy.ack(Cluster);
    assert_eq!(envoy.nack(Endpoints, "bad"), "");
    // Back to those that it has: they end the warming all the same.
    assert_eq!(
        envoy.push(&["Cluster/a@2", "Endpoints/a@1"]),
        "Endpoints +a@1"
    );
    assert_eq!(envoy.ack(Endpoints), "");
    assert_eq!(envoy.push(&["Cluster/a@2", "Endpoints/a@1"]), "");
}
