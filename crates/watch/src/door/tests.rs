use postern_api::{GatewayInstanceSpec, TenantGrantSpec};
use postern_refs::objects::*;
use postern_refs::status::{Condition, ParentStatus, RouteStatus, Status, Truth};
use postern_refs::{Body, Object};

use super::*;

mod core;
mod hostile;

/// The JSON of a YAML text.
fn json(yaml: &str) -> String {
    let value: serde_json::Value =
        serde_saphyr::from_str_with_options(yaml, crate::yaml_options()).expect("YAML of a test");
    value.to_string()
}

/// A kind's object of this name around what stands in its spec.
fn spec(yaml: &str) -> String {
    let mut text = String::from(
        "metadata: {name: x, namespace: n, uid: u, generation: 3, creationTimestamp: 2026-01-02T03:04:05Z}\nspec:\n",
    );
    for line in yaml.lines() {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    json(&text)
}

fn object<T: Lower>(json: &str) -> Object<T> {
    lower::<T>(json).expect("it has a name").object
}

fn valid<T: Lower>(json: &str) -> T {
    let object = object::<T>(json);
    match object.body {
        Body::Valid(value) => value,
        Body::Invalid { field, reason } => panic!("{field}: {reason}"),
    }
}

fn unsupported<T: Lower>(json: &str) -> Vec<String> {
    let object = object::<T>(json);
    assert!(object.valid().is_some(), "{:?}", object.body);
    object.unsupported.iter().map(ToString::to_string).collect()
}

fn invalid<T: Lower>(json: &str) -> (String, String) {
    match object::<T>(json).body {
        Body::Invalid { field, reason } => (field.to_string(), reason.to_string()),
        Body::Valid(value) => panic!("valid: {value:?}"),
    }
}

#[test]
fn metadata_is_kept_as_far_as_it_matters() {
    let route = object::<HttpRoute>(&spec("{}"));
    assert_eq!(route.meta.key.to_string(), "n/x");
    assert_eq!(&*route.meta.uid, "u");
    assert_eq!(route.meta.generation, 3);
    assert_eq!(route.meta.created, 1_767_323_045_000_000);
    assert!(route.unsupported.is_empty());
}

#[test]
fn defaults_of_the_api_are_applied() {
    let route = valid::<HttpRoute>(&spec(
        "parentRefs: [{name: g}]\nrules: [{backendRefs: [{name: s}]}]",
    ));
    assert_eq!(
        route.parents,
        [ParentRef {
            group: "gateway.networking.k8s.io".into(),
            kind: "Gateway".into(),
            namespace: None,
            name: "g".into(),
            section: None,
            port: None,
        }]
    );
    assert_eq!(
        route.rules[0].backends,
        [BackendRef {
            group: "".into(),
            kind: "Service".into(),
            namespace: None,
            name: "s".into(),
            port: None,
            weight: 1
        }]
    );
    let everything = HttpMatch {
        path_type: PathType::Prefix,
        path: "/".into(),
        headers: vec![],
        query: vec![],
        method: None,
    };
    assert_eq!(route.rules[0].matches, std::slice::from_ref(&everything));
    let bare = valid::<HttpRoute>(&spec("{}"));
    assert_eq!(
        bare.rules,
        [HttpRule {
            matches: vec![everything],
            filters: vec![],
            backends: vec![]
        }]
    );
}

#[test]
fn a_whole_route_is_read() {
    let route = valid::<HttpRoute>(&spec(
        r#"
parentRefs: [{name: g, namespace: other, sectionName: web, port: 8080}]
hostnames: [a.example, "*.b.example"]
rules:
- name: first
  matches:
  - path: {type: Exact, value: /a}
    method: GET
    headers: [{name: X-A, value: "1"}, {type: RegularExpression, name: B, value: ".*"}]
    queryParams: [{name: q, value: v}]
  - path: {type: RegularExpression, value: "/[a-z]+"}
  filters:
  - type: RequestRedirect
    requestRedirect: {scheme: https, hostname: c.example, port: 8443, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}
  - type: URLRewrite
    urlRewrite: {hostname: x}
  backendRefs: [{name: s, port: 80, weight: 0}, {group: g.example, kind: K, name: t, namespace: m, port: 81, weight: 1000000}]
"#,
    ));
    assert_eq!(route.parents[0].section.as_deref(), Some("web"));
    assert_eq!(route.parents[0].port, Some(8080));
    assert_eq!(route.hostnames.len(), 2);
    let rule = &route.rules[0];
    assert_eq!(rule.matches[0].path_type, PathType::Exact);
    assert_eq!(rule.matches[0].method.as_deref(), Some("GET"));
    assert_eq!(
        rule.matches[0].headers[1].kind,
        MatchKind::Other("RegularExpression".into())
    );
    assert_eq!(rule.matches[0].query[0].kind, MatchKind::Exact);
    assert_eq!(
        rule.matches[1].path_type,
        PathType::Other("RegularExpression".into())
    );
    assert_eq!(
        rule.filters,
        [
            HttpFilter::Redirect(Redirect {
                scheme: Some("https".into()),
                hostname: Some("c.example".into()),
                path: Some(PathRewrite::Prefix("/b".into())),
                port: Some(8443),
                status: 301,
            }),
            HttpFilter::Other("URLRewrite".into()),
        ]
    );
    assert_eq!(
        (rule.backends[0].weight, rule.backends[1].weight),
        (0, 1_000_000)
    );
}

#[test]
fn a_gateway_is_read() {
    let gateway = valid::<Gateway>(&spec(
        r#"
gatewayClassName: postern
infrastructure: {parametersRef: {group: postern.dev, kind: GatewayInstance, name: main}}
listeners:
- {name: web, port: 80, protocol: HTTP}
- name: tls
  port: 443
  protocol: HTTPS
  hostname: "*.example"
  tls: {certificateRefs: [{name: c}, {name: d, namespace: m}]}
  allowedRoutes:
    namespaces: {from: Selector, selector: {matchLabels: {a: b}, matchExpressions: [{key: k, operator: In, values: [v]}, {key: l, operator: Gt}]}}
    kinds: [{kind: HTTPRoute}]
- {name: odd, port: 1, protocol: example.com/QUIC, tls: {mode: Half}, allowedRoutes: {namespaces: {from: Selector}}}
- {name: all, port: 2, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}
"#,
    ));
    assert_eq!(gateway.parameters.as_ref().map(|p| &*p.name), Some("main"));
    assert_eq!(
        gateway.listeners[0].allowed_routes,
        AllowedRoutes::default()
    );
    let tls = gateway.listeners[1].tls.as_ref().expect("tls");
    assert_eq!(tls.mode, TlsMode::Terminate);
    assert_eq!(
        (&*tls.certificates[0].kind, &*tls.certificates[0].group),
        ("Secret", "")
    );
    assert_eq!(tls.certificates[1].namespace.as_deref(), Some("m"));
    let NamespacesFrom::Selector(selector) = &gateway.listeners[1].allowed_routes.namespaces else {
        panic!("{:?}", gateway.listeners[1])
    };
    assert_eq!(
        selector.requirements[1].operator,
        SelectorOperator::Other("Gt".into())
    );
    assert_eq!(
        &*gateway.listeners[1].allowed_routes.kinds[0].group,
        "gateway.networking.k8s.io"
    );
    assert_eq!(
        gateway.listeners[2].protocol,
        Protocol::Other("example.com/QUIC".into())
    );
    assert_eq!(
        gateway.listeners[2].tls.as_ref().map(|tls| &tls.mode),
        Some(&TlsMode::Other("Half".into()))
    );
    assert_eq!(
        gateway.listeners[2].allowed_routes.namespaces,
        NamespacesFrom::Nobody("Selector".into())
    );
    assert_eq!(
        gateway.listeners[3].allowed_routes.namespaces,
        NamespacesFrom::All
    );
}

#[test]
fn fields_that_are_not_read_are_named() {
    let route = |yaml| unsupported::<HttpRoute>(&spec(yaml));
    let gateway = |yaml| unsupported::<Gateway>(&spec(yaml));
    let cases: &[(Vec<String>, &[&str])] = &[
        (
            route("rules: [{}, {timeouts: {request: 1s}, retry: {attempts: 2}}]"),
            &["spec.rules[1].retry", "spec.rules[1].timeouts"],
        ),
        (
            route("rules: [{backendRefs: [{name: a}, {name: b, filters: [{type: CORS}]}]}]"),
            &["spec.rules[0].backendRefs[1].filters"],
        ),
        (route("rules: [{name: known}]"), &[]),
        (
            route(
                "rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}]}]",
            ),
            &[],
        ),
        (
            route("rules: [{filters: [{type: CORS, urlRewrite: {hostname: a}}]}]"),
            &["spec.rules[0].filters[0].urlRewrite"],
        ),
        (
            route("rules: [{filters: [{type: New, newFilter: {a: b}}]}]"),
            &["spec.rules[0].filters[0].newFilter"],
        ),
        (
            route("rules: [{matches: [{path: {value: /, caseSensitive: false}}]}]"),
            &["spec.rules[0].matches[0].path.caseSensitive"],
        ),
        (route("useDefaultGateways: None"), &[]),
        (
            route("useDefaultGateways: All"),
            &["spec.useDefaultGateways"],
        ),
        // What is set to nothing asks for nothing.
        (
            route("{a: null, b: [], c: {}, d: false, e: 0, f: ''}"),
            &["spec.d", "spec.e", "spec.f"],
        ),
        (
            gateway(
                "{gatewayClassName: c, addresses: [{value: 1.2.3.4}], infrastructure: {labels: {a: b}}}",
            ),
            &["spec.addresses", "spec.infrastructure.labels"],
        ),
        (
            gateway(
                "{gatewayClassName: c, allowedListeners: {namespaces: {from: None}}, defaultScope: None}",
            ),
            &[],
        ),
        (
            gateway("{gatewayClassName: c, allowedListeners: {namespaces: {from: All}}}"),
            &["spec.allowedListeners"],
        ),
        (
            gateway(
                "{gatewayClassName: c, listeners: [{name: a, port: 1, protocol: HTTPS, tls: {options: {x: y}}}]}",
            ),
            &["spec.listeners[0].tls.options"],
        ),
        (
            unsupported::<GatewayClass>(&spec("{controllerName: c, description: text}")),
            &[],
        ),
        (
            unsupported::<ReferenceGrant>(&spec(
                "{from: [{group: g, kind: k, namespace: n, name: x}], to: []}",
            )),
            &["spec.from[0].name"],
        ),
        (
            unsupported::<GatewayInstanceSpec>(&spec(
                "{exposure: {type: NodePort, extra: 1}, sharding: x}",
            )),
            &["spec.exposure.extra", "spec.sharding"],
        ),
        (
            unsupported::<TenantGrantSpec>(&spec("{hostnames: [a], hostname: b}")),
            &["spec.hostname"],
        ),
        (
            unsupported::<HttpRoute>(&json(
                "{metadata: {name: x, finalizers: [a]}, spec: {}, status: {parents: []}, rules: [1]}",
            )),
            &["rules"],
        ),
        // Kubernetes' own kinds have much that is no business of a gateway's.
        (
            unsupported::<Service>(&spec("{sessionAffinity: ClientIP, externalIPs: [1.2.3.4]}")),
            &[],
        ),
        (
            unsupported::<Namespace>(&json("{metadata: {name: x}, spec: {finalizers: [a]}}")),
            &[],
        ),
    ];
    for (number, (found, expected)) in cases.iter().enumerate() {
        assert_eq!(found, expected, "case {number}");
    }
}

#[test]
fn what_does_not_decode_is_invalid_at_its_field() {
    let route = |yaml| invalid::<HttpRoute>(&spec(yaml));
    let gateway = |yaml| invalid::<Gateway>(&spec(yaml));
    let cases: Vec<((String, String), &str, &str)> = vec![
        (
            route("rules: [{}, {backendRefs: [{name: a, port: 0}]}]"),
            "spec.rules[1].backendRefs[0].port",
            "invalid value: integer `0`, expected a whole number from 1 to 65535",
        ),
        (
            route("rules: [{backendRefs: [{name: a, port: 70000}]}]"),
            "spec.rules[0].backendRefs[0].port",
            "invalid value: integer `70000`, expected a whole number from 1 to 65535",
        ),
        (
            route("rules: [{backendRefs: [{name: a, weight: -1}]}]"),
            "spec.rules[0].backendRefs[0].weight",
            "invalid value: integer `-1`, expected a whole number from 0 to 1000000",
        ),
        (
            route("rules: [{backendRefs: [{name: a, weight: 1000001}]}]"),
            "spec.rules[0].backendRefs[0].weight",
            "invalid value: integer `1000001`, expected a whole number from 0 to 1000000",
        ),
        (
            route("rules: [{backendRefs: [{name: a, weight: 99999999999999999999}]}]"),
            "spec.rules[0].backendRefs[0].weight",
            "",
        ),
        (
            route("rules: [{backendRefs: [{name: a, port: '80'}]}]"),
            "spec.rules[0].backendRefs[0].port",
            "invalid type: string \"80\", expected a whole number from 1 to 65535",
        ),
        (
            route("rules: [{backendRefs: [{port: 80}]}]"),
            "spec.rules[0].backendRefs[0].name",
            "required, but missing",
        ),
        (
            route("rules: {}"),
            "spec.rules",
            "invalid type: map, expected a list of at most 16 items",
        ),
        (
            route("hostnames: [a, 1]"),
            "spec.hostnames[1]",
            "invalid type: integer `1`, expected a string",
        ),
        (
            route("hostnames: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"),
            "spec.hostnames[0]",
            "invalid type: integer `1`, expected a string",
        ),
        (
            route("rules: [{filters: [{type: RequestRedirect}]}]"),
            "spec.rules[0].filters[0].requestRedirect",
            "required for type RequestRedirect, but missing",
        ),
        (
            route(
                "rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 99}}]}]",
            ),
            "spec.rules[0].filters[0].requestRedirect.statusCode",
            "invalid value: integer `99`, expected a whole number from 100 to 599",
        ),
        (
            gateway("listeners: []"),
            "spec.gatewayClassName",
            "required, but missing",
        ),
        (
            gateway("{gatewayClassName: c, listeners: [{name: a, port: 65536, protocol: HTTP}]}"),
            "spec.listeners[0].port",
            "invalid value: integer `65536`, expected a whole number from 1 to 65535",
        ),
        (
            gateway("{gatewayClassName: c, listeners: [{name: a, port: 1}]}"),
            "spec.listeners[0].protocol",
            "required, but missing",
        ),
        (
            invalid::<GatewayInstanceSpec>(&spec("{exposure: {type: Nodeport}}")),
            "spec.exposure.type",
            "unknown variant `Nodeport`, expected one of `ClusterIP`, `NodePort`, `LoadBalancer`, `Route`",
        ),
        (
            invalid::<HttpRoute>(&json("{metadata: {name: x}}")),
            "spec",
            "required, but missing",
        ),
        (
            invalid::<HttpRoute>(&json("{metadata: {name: x}, spec: 1}")),
            "spec",
            "invalid type: integer `1`, expected an object",
        ),
        (
            invalid::<HttpRoute>(&json("{metadata: {name: x, generation: a}, spec: {}}")),
            "metadata.generation",
            "invalid type: string \"a\", expected i64",
        ),
        (
            invalid::<HttpRoute>(&json(
                "{metadata: {name: x, creationTimestamp: today}, spec: {}}",
            )),
            "metadata.creationTimestamp",
            "today: no time of RFC 3339",
        ),
        (
            invalid::<EndpointSlice>(&json(
                "{metadata: {name: x}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1, '10.0.0.1;x']}]}",
            )),
            "endpoints[0].addresses[1]",
            "10.0.0.1;x: no IP address",
        ),
    ];
    for (number, ((field, reason), expected_field, expected_reason)) in cases.iter().enumerate() {
        assert_eq!(field, expected_field, "case {number}: {reason}");
        if !expected_reason.is_empty() {
            assert_eq!(reason, expected_reason, "case {number}");
        }
    }
}

#[test]
fn an_invalid_object_keeps_its_name_and_one_without_a_name_is_none() {
    let broken = object::<HttpRoute>(&json(
        "{metadata: {name: x, namespace: n, uid: [], labels: {a: 1}}, spec: {a: 1}}",
    ));
    assert_eq!(broken.meta.key.to_string(), "n/x");
    assert!(broken.valid().is_none());
    assert!(broken.unsupported.is_empty());
    for (text, field) in [
        ("{}", "metadata.name"),
        ("{metadata: {namespace: n}}", "metadata.name"),
        ("{metadata: {name: 1}}", "metadata.name"),
        ("{metadata: {name: ''}}", "metadata.name"),
        ("{metadata: 1}", "metadata"),
        ("[]", ""),
        ("1", ""),
    ] {
        let nameless = lower::<HttpRoute>(&json(text)).expect_err(text);
        assert_eq!(nameless.field.to_string(), field, "{text}: {nameless}");
    }
    assert!(lower::<HttpRoute>("{\"metadata\":{\"name\":\"x\"").is_err());
}

#[test]
fn our_part_of_a_status_is_told_from_the_rest() {
    let ours = |order: [&str; 2], time: &str, foreign: &str| {
        let condition = |kind: &str| {
            format!(
                "{{type: {kind}, status: 'True', reason: R, message: m, observedGeneration: 2, lastTransitionTime: {time}}}"
            )
        };
        let text = format!(
            "metadata: {{name: x}}\nspec: {{}}\nstatus:\n  parents:\n  - {{controllerName: other.example/c, parentRef: {{name: g}}, conditions: [{foreign}]}}\n  - {{controllerName: postern.dev/gateway-controller, parentRef: {{name: g}}, conditions: [{}, {}]}}\n",
            condition(order[0]),
            condition(order[1]),
        );
        lower::<HttpRoute>(&json(&text)).expect("named").observed
    };
    let observed = ours(["Accepted", "ResolvedRefs"], "2026-01-01T00:00:00Z", "");
    assert_eq!(
        observed,
        ours(
            ["ResolvedRefs", "Accepted"],
            "2026-01-02T00:00:00Z",
            "{type: A, status: 'False'}"
        )
    );
    assert_ne!(
        observed,
        ours(["Accepted", "Other"], "2026-01-01T00:00:00Z", "")
    );
    // A condition in another's domain is another's, wherever it stands.
    assert_eq!(
        ours(
            ["Accepted", "kuadrant.io/Affected"],
            "2026-01-01T00:00:00Z",
            ""
        ),
        ours(
            ["Accepted", "kuadrant.io/Other"],
            "2026-01-01T00:00:00Z",
            ""
        ),
    );
    let condition = |kind: &str| Condition {
        kind: kind.into(),
        status: Truth::True,
        reason: "R".into(),
        message: "m".into(),
        observed_generation: 2,
    };
    let meant = Status::Route(RouteStatus {
        parents: vec![ParentStatus {
            parent: ParentRef {
                group: "gateway.networking.k8s.io".into(),
                kind: "Gateway".into(),
                namespace: None,
                name: "g".into(),
                section: None,
                port: None,
            },
            conditions: vec![condition("ResolvedRefs"), condition("Accepted")],
        }],
    });
    assert_eq!(observed, Some(Some(digest(&meant))));

    let none = lower::<HttpRoute>(&spec("{}")).expect("named").observed;
    assert_eq!(
        none,
        Some(Some(digest(&Status::Route(RouteStatus::default()))))
    );
    let unreadable = lower::<HttpRoute>(&json(
        "{metadata: {name: x}, spec: {}, status: {parents: 1}}",
    ))
    .expect("named");
    assert_eq!(unreadable.observed, Some(None));
    assert!(unreadable.object.valid().is_some());
    assert_eq!(lower::<Service>(&spec("{}")).expect("named").observed, None);
}

#[test]
fn a_change_of_status_or_of_what_is_not_read_changes_no_object() {
    let first = object::<HttpRoute>(&json(
        "{metadata: {name: x, resourceVersion: '1', managedFields: []}, spec: {hostnames: [a]}}",
    ));
    let second = object::<HttpRoute>(&json(
        "{metadata: {name: x, resourceVersion: '2', labels: {a: b}}, spec: {hostnames: [a]}, status: {parents: []}}",
    ));
    assert_eq!(first, second);
}
