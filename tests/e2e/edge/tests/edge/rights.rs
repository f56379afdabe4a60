//! Who may say which host: the policy here, compared with OpenShift's own code.

use postern_cluster::Cluster;
use postern_edge::{Question, oracle};
use serde_json::{Value, json};

use super::{DOMAIN, admin, apply, eventually, route};

/// What somebody may write, and what is there before: none where it is new.
fn cases() -> Vec<(&'static str, Option<Value>, Value)> {
    let tls = |more: Value| {
        let mut tls = json!({"termination": "edge"});
        for (name, value) in more.as_object().unwrap() {
            tls[name] = value.clone();
        }
        json!({"tls": tls})
    };
    let host = json!({"host": "a.example.test"});
    let other = json!({"host": "b.example.test"});
    let inline = tls(json!({"certificate": "c", "key": "k"}));
    let renewed = tls(json!({"certificate": "d", "key": "k"}));
    let outer = tls(json!({"externalCertificate": {"name": "s"}}));
    let destination = json!({"tls": {"termination": "reencrypt", "destinationCACertificate": "c"}});
    vec![
        ("nothing", None, json!({})),
        ("a host", None, host.clone()),
        ("a subdomain", None, json!({"subdomain": "s"})),
        ("edge", None, tls(json!({}))),
        ("a certificate", None, inline.clone()),
        ("an external certificate", None, outer.clone()),
        ("a destination's authority", None, destination.clone()),
        (
            "another path",
            Some(host.clone()),
            json!({"host": "a.example.test", "path": "/x"}),
        ),
        ("another host", Some(host.clone()), other),
        ("no host", Some(host), json!({})),
        (
            "another subdomain",
            Some(json!({"subdomain": "s"})),
            json!({"subdomain": "t"}),
        ),
        (
            "the first certificate",
            Some(tls(json!({}))),
            inline.clone(),
        ),
        ("a new certificate", Some(inline.clone()), renewed),
        ("the same certificate", Some(inline.clone()), inline.clone()),
        ("no certificate any more", Some(inline), tls(json!({}))),
        ("the same external certificate", Some(outer.clone()), outer),
        (
            "the same destination's authority",
            Some(destination.clone()),
            destination,
        ),
    ]
}

/// For users with each set of rights the policy says what library-go says.
pub fn hosts_are_for_those_who_may(cluster: &Cluster) {
    apply(
        cluster,
        &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rights"}})],
    );
    let users: [(&str, &[&str]); 4] = [
        ("nothing", &[]),
        ("creates", &["create"]),
        ("updates", &["update"]),
        ("both", &["create", "update"]),
    ];
    for (user, may) in users {
        let mut rules = vec![
            json!({"apiGroups": ["route.openshift.io"], "resources": ["routes"],
            "verbs": ["get", "create", "update"]}),
        ];
        if !may.is_empty() {
            rules.push(json!({"apiGroups": ["route.openshift.io"],
                "resources": ["routes/custom-host"], "verbs": may}));
        }
        let meta = json!({"name": user, "namespace": "rights"});
        let group = "rbac.authorization.k8s.io";
        apply(
            cluster,
            &[
                json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": meta,
                    "rules": rules}),
                json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": meta,
                    "roleRef": {"apiGroup": group, "kind": "Role", "name": user},
                    "subjects": [{"apiGroup": group, "kind": "User", "name": user}]}),
            ],
        );
    }
    let cases = cases();
    let older: Vec<Value> = cases
        .iter()
        .enumerate()
        .filter_map(|(index, (_, older, _))| {
            Some(route("rights", &format!("r{index}"), older.as_ref()?))
        })
        .collect();
    apply(cluster, &older);

    // A policy is in force some time after it was written.
    let nobody = cluster.kubeconfig_for("nothing", &[]).unwrap();
    let probe = route("rights", "probe", &json!({"host": "probe.example.test"})).to_string();
    let dry = ["create", "--dry-run=server", "-f", "-"];
    eventually("the policy is in force", || {
        let output = cluster.kubectl_as(&nobody, &dry, &probe).unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if told.contains("permission to set the host field") {
            Ok(())
        } else {
            Err(told)
        }
    });

    let mut refused = 0;
    for (user, may) in users {
        let config = cluster.kubeconfig_for(user, &[]).unwrap();
        let questions: Vec<Question> = cases
            .iter()
            .enumerate()
            .map(|(index, (_, older, spec))| Question {
                route: route("rights", &format!("r{index}"), spec),
                older: older
                    .as_ref()
                    .map(|older| route("rights", &format!("r{index}"), older)),
            })
            .collect();
        let verdicts = oracle(&questions, DOMAIN, may).unwrap();
        for (((about, older, _), question), verdict) in cases.iter().zip(questions).zip(verdicts) {
            let act = if older.is_some() { "replace" } else { "create" };
            let arguments = [act, "--dry-run=server", "-f", "-"];
            let output = cluster
                .kubectl_as(&config, &arguments, &question.route.to_string())
                .unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                output.status.success(),
                verdict.errors.is_empty(),
                "{about} by one who may {may:?}: the API server says {told:?}, library-go {verdict:?}"
            );
            refused += u32::from(!output.status.success());
        }
    }
    assert!(refused > 10, "only {refused} were refused");
    admin(cluster, &["delete", "namespace", "rights", "--wait=false"]);
}
