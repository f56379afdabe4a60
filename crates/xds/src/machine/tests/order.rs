//! Make before break.

use super::*;

#[test]
fn routes_wait_for_clusters_and_their_endpoints() {
    let mut envoy = Envoy::with(&[
        "Cluster/a@1",
        "Cluster/s@1",
        "Endpoints/a@1",
        "Routes/r@1 a gone s",
    ]);
    assert_eq!(envoy.subscribe(Routes, &["r"]), "");
    assert_eq!(envoy.subscribe(Cluster, &[]), "Cluster +a@1 +s@1");
    assert_eq!(envoy.subscribe(Endpoints, &["a"]), "Endpoints +a@1");
    assert_eq!(envoy.ack(Endpoints), "");
    // `s` has no endpoints, and `gone` is nowhere: neither is waited for.
    assert_eq!(envoy.ack(Cluster), "Routes +r@1");
}

#[test]
fn routes_wait_for_endpoints_that_envoy_asks_for_last() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Endpoints/a@1", "Routes/r@1 a"]);
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Routes, &["r"]);
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.subscribe(Endpoints, &["a"]), "Endpoints +a@1");
    assert_eq!(envoy.ack(Endpoints), "Routes +r@1");
}

#[test]
fn the_old_table_stays_and_its_clusters_with_it() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Endpoints/a@1", "Routes/r@1 a"]);
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Endpoints, &["a"]);
    envoy.subscribe(Routes, &["r"]);
    envoy.ack(Cluster);
    envoy.ack(Endpoints);
    envoy.ack(Routes);
    let next = ["Cluster/b@1", "Endpoints/b@1", "Routes/r@2 b"];
    assert_eq!(envoy.push(&next), "Cluster +b@1");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.subscribe(Endpoints, &["b"]), "Endpoints +b@1");
    assert_eq!(envoy.ack(Endpoints), "Routes +r@2");
    assert_eq!(envoy.ack(Routes), "Cluster -a; Endpoints -a");
}

#[test]
fn clusters_of_a_refused_table_go_and_those_of_the_old_one_stay() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Routes/r@1 a"]);
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Routes, &["r"]);
    envoy.ack(Cluster);
    envoy.ack(Routes);
    assert_eq!(envoy.push(&["Cluster/b@1", "Routes/r@2 b"]), "Cluster +b@1");
    assert_eq!(envoy.ack(Cluster), "Routes +r@2");
    // In flight, both count.
    assert_eq!(envoy.push(&["Routes/r@3"]), "");
    assert_eq!(envoy.nack(Routes, "no"), "Cluster -b; Routes +r@3");
    assert_eq!(envoy.ack(Routes), "");
    assert_eq!(envoy.ack(Cluster), "Cluster -a");
}

#[test]
fn a_cluster_that_comes_back_is_waited_for_again() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Endpoints/a@1"]);
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Endpoints, &["a"]);
    envoy.subscribe(Routes, &["r"]);
    envoy.ack(Cluster);
    envoy.ack(Endpoints);
    envoy.ack(Routes);
    assert_eq!(envoy.push(&[]), "Cluster -a; Endpoints -a");
    let back = envoy.push(&["Cluster/a@1", "Endpoints/a@1", "Routes/r@1 a"]);
    assert_eq!(back, "");
    assert_eq!(envoy.ack(Endpoints), "Endpoints +a@1");
    assert_eq!(envoy.ack(Endpoints), "");
    assert_eq!(envoy.ack(Cluster), "Cluster +a@1; Endpoints +a@1");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.ack(Endpoints), "Routes +r@1");
}

#[test]
fn refused_needs_are_not_waited_for() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Endpoints/a@1", "Routes/r@1 a"]);
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Routes, &["r"]);
    assert_eq!(envoy.nack(Cluster, "no"), "Routes +r@1");

    let mut envoy = Envoy::with(&["Cluster/a@1", "Endpoints/a@1", "Routes/r@1 a"]);
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Endpoints, &["a"]);
    envoy.subscribe(Routes, &["r"]);
    envoy.ack(Cluster);
    assert_eq!(envoy.nack(Endpoints, "no"), "Routes +r@1");
}

#[test]
fn needs_of_a_client_that_does_not_want_clusters_are_not_waited_for() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Cluster/b@1", "Routes/r@1 a b"]);
    assert_eq!(envoy.subscribe(Cluster, &["b"]), "Cluster +b@1");
    assert_eq!(envoy.subscribe(Routes, &["r"]), "");
    assert_eq!(envoy.ack(Cluster), "Routes +r@1");
}

#[test]
fn listeners_go_at_once_and_their_tables_after_them() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Secret/s@1", "Listener/l@1", "Routes/r@1 a"]);
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Listener, &[]);
    envoy.subscribe(Secret, &["s"]);
    envoy.subscribe(Routes, &["r"]);
    envoy.ack(Cluster);
    envoy.ack(Listener);
    envoy.ack(Secret);
    envoy.ack(Routes);
    envoy.events();
    // A new listener and the end of the old one go together: Envoy can then reuse the address.
    assert_eq!(envoy.push(&["Listener/m@1"]), "Listener +m@1 -l");
    assert_eq!(envoy.ack(Listener), "Secret -s; Routes -r");
    assert_eq!(envoy.ack(Secret), "");
    assert_eq!(envoy.ack(Routes), "Cluster -a");
    assert_eq!(envoy.ack(Cluster), "");
    let told = [
        acknowledged(Listener, &[("m", 1)], &["l"]),
        acknowledged(Secret, &[], &["s"]),
        acknowledged(Routes, &[], &["r"]),
        acknowledged(Cluster, &[], &["a"]),
    ];
    assert_eq!(envoy.events(), told);
}

#[test]
fn a_table_given_up_needs_nothing() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Routes/r@1 a"]);
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Routes, &["r"]);
    envoy.ack(Cluster);
    envoy.ack(Routes);
    assert_eq!(envoy.push(&["Routes/r@1 a"]), "");
    assert_eq!(envoy.unsubscribe(Routes, &["r"]), "Cluster -a");
}
