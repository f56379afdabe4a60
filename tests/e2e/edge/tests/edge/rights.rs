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
    let named = |index: usize, spec| route("rights", &format!("r{index}"), spec);
    for (user, may) in users {
        let config = cluster.kubeconfig_for(user, &[]).unwrap();
        let questions: Vec<Question> = cases
            .iter()
            .enumerate()
            .map(|(index, (_, older, spec))| Question {
                route: named(index, spec),
                older: older.as_ref().map(|older| named(index, older)),
            })
            .collect();
        let verdicts = oracle(&questions, DOMAIN, may).unwrap();
        // kubectl goes on with the others when one is refused.
        let [(made, told), (replaced, told_too)] = ["create", "replace"].map(|act| {
            let wanted = |question: &&Question| question.older.is_some() == (act == "replace");
            let items = questions.iter().filter(wanted).map(|q| q.route.clone());
            let list =
                json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()});
            let arguments = [act, "--dry-run=server", "-o", "name", "-f", "-"];
            let output = cluster
                .kubectl_as(&config, &arguments, &list.to_string())
                .unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (text(output.stdout), text(output.stderr))
        });
        let (taken, told) = (made + &replaced, told + &told_too);
        for (index, ((about, ..), verdict)) in cases.iter().zip(verdicts).enumerate() {
            let taken = taken
                .lines()
                .any(|line| line.ends_with(&format!("/r{index}")));
            let refusal = told
                .lines()
                .find(|line| line.contains(&format!("\"r{index}\"")));
            assert_eq!(
                (taken, refusal.is_some()),
                (verdict.errors.is_empty(), !verdict.errors.is_empty()),
                "{about} by one who may {may:?}: the API server says {refusal:?}, library-go {verdict:?}"
            );
            refused += u32::from(!taken);
        }
    }
    assert!(refused > 10, "only {refused} were refused");
    admin(cluster, &["delete", "namespace", "rights", "--wait=false"]);
}
