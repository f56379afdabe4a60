//! Pages about clusters in trouble, as in `goldens/<case>/`: `in.yaml` is what people wrote, the
//! other files are the pages. What the operator and the control plane say of it comes from their own
//! code (`play.rs`), so no page can tell of conditions that the product does not write.
//! `UPDATE_GOLDENS=1` writes the pages anew; read the diff.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod play;

use std::fs;
use std::path::{Path, PathBuf};

use play::{Case, WELL, change, is};
use postern_consent::RouterVerdict;
use postern_pages::{Asked, Problem, Target, explain, routes, status, text};
use serde_json::json;

const CASES: &[Case] = &[
    Case {
        name: "well",
        explain: &["httproute/web", "gateway/default", "gwi/default", "svc/web"],
        ..WELL
    },
    Case {
        name: "many-routes",
        routes: &[None, Some("a.shop.example/cart"), Some("nobody.example")],
        explain: &["httproute/late", "httproute/broken"],
        ..WELL
    },
    Case {
        name: "no-class",
        tenant: false,
        class: false,
        ..WELL
    },
    Case {
        name: "no-class-as-tenant",
        class: false,
        ..WELL
    },
    Case {
        name: "no-grant",
        explain: &["gwi/default", "httproute/web"],
        ..WELL
    },
    Case {
        name: "bare-gateway",
        ..WELL
    },
    Case {
        name: "absent-secret",
        explain: &["gateway/default"],
        ..WELL
    },
    Case {
        name: "unsupported-field",
        ..WELL
    },
    Case {
        name: "no-endpoints",
        explain: &["httproute/web"],
        ..WELL
    },
    Case {
        name: "router-refuses",
        explain: &["httproute/web"],
        router: |host| RouterVerdict {
            admitted: Some(false),
            reason: "HostAlreadyClaimed".into(),
            message: "route other already exposes this host and is older".into(),
            ..play::admitted(host)
        },
        ..WELL
    },
    Case {
        name: "over-quota",
        ..WELL
    },
    Case {
        name: "control-plane-down",
        explain: &["httproute/web"],
        control_planes: 0,
        after: |objects| {
            for object in objects {
                if is(object, "HTTPRoute", "web") {
                    change(object, 300);
                }
            }
        },
        ..WELL
    },
    Case {
        name: "operator-down",
        tenant: false,
        lease_age: 600,
        ..WELL
    },
    Case {
        name: "operator-down-as-tenant",
        after: |objects| {
            for object in objects {
                if is(object, "GatewayInstance", "default") {
                    object["spec"]["exposure"] = json!({"type": "NodePort"});
                    change(object, 240);
                }
            }
        },
        ..WELL
    },
];

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// Without the codes that colour it.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        plain.push_str(&rest[..at]);
        let end = rest[at..].find('m').expect("the end of a code");
        rest = &rest[at + end + 1..];
    }
    plain + rest
}

fn pages(case: &Case) -> Vec<(String, String)> {
    let input = goldens().join(case.name).join("in.yaml");
    let input = fs::read_to_string(input).expect("the input of the case");
    let facts = play::facts(case, &input);
    let page = status(&facts);
    let json = serde_json::to_string_pretty(&page).unwrap() + "\n";
    let mut all = vec![
        ("status.txt".into(), plain(&text::status(&page))),
        ("status.json".into(), json),
    ];
    for asked in case.routes {
        let page = routes(&facts, asked.map(|asked| Asked::parse(asked).unwrap()));
        let name = match asked {
            Some(asked) => format!("routes-{}.txt", asked.replace('/', "-")),
            None => "routes.txt".into(),
        };
        all.push((name, plain(&text::routes(&page))));
    }
    for object in case.explain {
        let page = explain(&facts, &Target::parse(object).unwrap()).unwrap();
        let name = format!("explain-{}.txt", object.replace('/', "-"));
        all.push((name, plain(&text::explain(&page))));
    }
    all
}

#[test]
fn pages_are_as_in_the_goldens() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let mut wrong = Vec::new();
    for case in CASES {
        for (name, page) in pages(case) {
            let path = goldens().join(case.name).join(name);
            let known = fs::read_to_string(&path).unwrap_or_default();
            if update {
                fs::write(&path, page).unwrap();
            } else if known != page {
                wrong.push(format!("{}:\n{page}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "other than the goldens:\n{}",
        wrong.join("\n")
    );
    let there = fs::read_dir(goldens()).unwrap().count();
    assert_eq!(there, CASES.len(), "a directory without a case");
}

fn problems(name: &str) -> Vec<Problem> {
    let case = CASES.iter().find(|case| case.name == name).expect("a case");
    let input = fs::read_to_string(goldens().join(name).join("in.yaml")).unwrap();
    status(&play::facts(case, &input)).problems
}

/// The goldens are read by people; this holds what they are for.
#[test]
fn every_trouble_is_told_once_with_its_cause_and_a_next_step() {
    assert_eq!(problems("well"), []);
    for (case, kind, reason, cause) in [
        (
            "no-class",
            "Gateway",
            "ClassNotFound",
            "no GatewayClass postern",
        ),
        (
            "no-class-as-tenant",
            "GatewayInstance",
            "ClassNotFound",
            "no GatewayClass",
        ),
        (
            "no-grant",
            "GatewayInstance",
            "NotGranted",
            "no TenantGrant covers the namespace shop",
        ),
        (
            "bare-gateway",
            "Gateway",
            "InvalidParameters",
            "no GatewayInstance default",
        ),
        (
            "absent-secret",
            "Gateway",
            "InvalidCertificateRef",
            "no Secret shop/cert",
        ),
        (
            "unsupported-field",
            "HTTPRoute",
            "UnsupportedValue",
            "spec.rules[0].timeouts",
        ),
        (
            "no-endpoints",
            "HTTPRoute",
            "NoEndpoints",
            "Service web port 8080",
        ),
        (
            "router-refuses",
            "Gateway",
            "RouteNotAdmitted",
            "HostAlreadyClaimed",
        ),
        ("over-quota", "HTTPRoute", "QuotaExceeded", "allows 1"),
        (
            "control-plane-down",
            "GatewayInstance",
            "ControlPlaneDown",
            "postern-default-controlplane",
        ),
        (
            "operator-down",
            "",
            "OperatorDown",
            "renewed its Lease 10 min ago",
        ),
        ("operator-down-as-tenant", "", "OperatorDown", "for 4 min"),
    ] {
        let problems = problems(case);
        let told: Vec<_> = problems
            .iter()
            .map(|problem| (&*problem.kind, &*problem.reason))
            .collect();
        assert_eq!(told, [(kind, reason)], "{case}");
        assert!(
            problems[0].cause.contains(cause),
            "{case}: {}",
            problems[0].cause
        );
        assert!(!problems[0].next.is_empty(), "{case}");
    }
}

/// Each example of `docs/cli.md` stands below a comment that names its golden.
#[test]
fn the_examples_of_the_docs_are_goldens() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let docs = fs::read_to_string(docs).unwrap();
    let mut examples = 0;
    for part in docs.split("<!-- golden: ").skip(1) {
        let (name, rest) = part.split_once(" -->\n```text\n").expect("a block below");
        let (block, _) = rest.split_once("```").expect("the end of the block");
        let golden = fs::read_to_string(goldens().join(name)).expect("the golden");
        assert_eq!(block, golden, "the example of {name}");
        examples += 1;
    }
    assert!(examples >= 4, "examples are missing");
}

/// What objects say is text: it neither commands a terminal nor poses as a line of ours.
#[test]
fn nothing_that_an_object_says_is_obeyed_by_a_terminal() {
    let case = Case {
        after: |objects| {
            let evil = "\u{1b}[2J\nNothing is known to be wrong.\u{202e}";
            for object in objects {
                if is(object, "Gateway", "default") {
                    let condition = &mut object["status"]["conditions"][1];
                    condition["status"] = json!("False");
                    condition["reason"] = json!(evil);
                    condition["message"] = json!(evil);
                    object["spec"]["listeners"][0]["hostname"] = json!(evil);
                }
                if is(object, "HTTPRoute", "web") {
                    object["spec"]["parentRefs"] = json!([{"name": evil}, {"name": "default"}]);
                }
                if is(object, "Deployment", "postern-default-envoy") {
                    object["status"] = json!({"conditions": [{
                        "type": "ReplicaFailure", "status": "True", "message": evil,
                    }]});
                }
            }
        },
        ..WELL
    };
    let input = fs::read_to_string(goldens().join("well/in.yaml")).unwrap();
    let facts = play::facts(&case, &input);
    let explained = explain(&facts, &Target::parse("httproute/web").unwrap()).unwrap();
    let pages = [
        text::status(&status(&facts)),
        text::routes(&routes(&facts, None)),
        text::explain(&explained),
    ];
    for page in pages {
        assert!(page.contains("\\u{1b}[2J"), "it is shown: {page}");
        assert!(!page.contains("\u{1b}[2J") && !page.contains('\u{202e}'));
        let posing = |line: &str| plain(line).starts_with("Nothing is known");
        assert!(!page.lines().any(posing), "{page}");
    }
}
