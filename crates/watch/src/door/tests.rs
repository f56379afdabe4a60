use postern_api::{GatewayInstanceSpec, TenantGrantSpec};
use postern_refs::objects::*;
use postern_refs::status::{Condition, ParentStatus, RouteStatus, Status, Truth};
use postern_refs::{Body, Object};

use super::*;

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
    assert_eq!(route.rules[0].matches, [everything.clone()]);
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
fn hostile_text_stays_a_value() {
    let nasty = "\"; }\n%\0\u{1b}[31m{{.}}$(id)`'\\";
    let text = serde_json::json!({
        "metadata": {"name": "x", "namespace": nasty},
        "spec": {
            "hostnames": [nasty],
            "rules": [{"matches": [{"path": {"value": nasty}, "headers": [{"name": nasty, "value": nasty}]}], nasty: 1}],
        },
    })
    .to_string();
    let route = object::<HttpRoute>(&text);
    assert_eq!(&*route.meta.key.namespace, nasty);
    let valid = route.valid().expect("valid");
    assert_eq!(&*valid.hostnames[0], nasty);
    assert_eq!(&*valid.rules[0].matches[0].path, nasty);
    assert_eq!(&*valid.rules[0].matches[0].headers[0].value, nasty);
    // What people will read is one line.
    let named = route.unsupported[0].to_string();
    assert!(
        named.starts_with("spec.rules[0].\"; }\\u{a}%\\u{0}\\u{1b}"),
        "{named}"
    );
    assert!(!named.contains(['\n', '\0', '\u{1b}']));
    let wrong =
        serde_json::json!({"metadata": {"name": "x"}, "spec": {"rules": nasty.repeat(1000)}})
            .to_string();
    let (_, reason) = invalid::<HttpRoute>(&wrong);
    assert!(
        reason.len() < 300 && !reason.contains(['\n', '\0', '\u{1b}']),
        "{reason}"
    );
}

#[test]
fn depth_length_and_number_are_bounded() {
    // Depth, in a field that is read, in one that is not, and in one that is passed over.
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let around = |inner: &str| format!(r#"{{"metadata":{{"name":"x"}},"spec":{{{inner}}}}}"#);
    assert_eq!(
        unsupported::<HttpRoute>(&around(&format!(r#""other":{deep}"#))),
        ["spec.other"]
    );
    assert_eq!(
        invalid::<HttpRoute>(&around(&format!(r#""hostnames":{deep}"#))).0,
        "spec.hostnames[0]"
    );
    assert!(
        unsupported::<HttpRoute>(&around(&format!(r#""rules":[{{"name":{deep}}}]"#))).is_empty()
    );
    // Number of items.
    let many = vec![r#"{"name":"a"}"#; 100_000].join(",");
    let (field, reason) = invalid::<HttpRoute>(&around(&format!(r#""parentRefs":[{many}]"#)));
    assert_eq!(
        (&*field, &*reason),
        ("spec.parentRefs", "more than 32 items")
    );
    // Number of unread fields.
    let unread: Vec<String> = (0..100_000).map(|n| format!(r#""f{n}":1"#)).collect();
    assert_eq!(
        unsupported::<HttpRoute>(&around(&unread.join(","))).len(),
        32
    );
    // Length.
    let long = around(&format!(r#""hostnames":["{}"]"#, "a".repeat(LARGEST)));
    let (field, reason) = invalid::<HttpRoute>(&long);
    assert_eq!(field, "");
    assert!(reason.ends_with("expected at most 4194304"), "{reason}");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let text = r#"{"metadata":{"name":"x"},"spec":{"hostnames":["a"],"hostnames":["b"]}}"#;
    let (field, reason) = invalid::<HttpRoute>(text);
    assert_eq!((&*field, &*reason), ("spec", "duplicate field `hostnames`"));
    assert!(lower::<HttpRoute>(r#"{"metadata":{"name":"x"},"spec":{},"spec":{}}"#).is_err());
}

#[test]
fn services_are_read() {
    let service = valid::<Service>(&spec(
        "selector: {app: a}\nports: [{port: 80}, {name: b, port: 81, targetPort: web, protocol: UDP, appProtocol: kubernetes.io/h2c}, {port: 82, targetPort: 8082}, {port: 83, targetPort: 0}, {port: 84, targetPort: '8084'}]",
    ));
    let targets: Vec<_> = service
        .ports
        .iter()
        .map(|port| port.target.clone())
        .collect();
    assert_eq!(
        targets,
        [80, 0, 8082, 83, 8084].map(|n| if n == 0 {
            TargetPort::Name("web".into())
        } else {
            TargetPort::Number(n)
        })
    );
    assert_eq!(
        (&*service.ports[0].protocol, &*service.ports[1].protocol),
        ("TCP", "UDP")
    );
    assert_eq!(service.kind, ServiceKind::Endpoints);
    let external = valid::<Service>(&spec("{type: ExternalName, externalName: localhost}"));
    assert_eq!(external.kind, ServiceKind::ExternalName);
}

#[test]
fn endpoint_slices_are_read() {
    let slice = |address_type: &str| {
        valid::<EndpointSlice>(&json(&format!(
            "metadata: {{name: x, labels: {{kubernetes.io/service-name: s}}}}\naddressType: {address_type}\nports: [{{name: web, port: 80, protocol: TCP}}, {{name: any}}]\nendpoints: [{{addresses: ['::1']}}, {{addresses: [10.0.0.1], conditions: {{ready: false, serving: true, terminating: true}}}}, {{conditions: {{ready: false}}}}]"
        )))
    };
    let ip = slice("IPv4");
    assert_eq!(&*ip.service, "s");
    assert_eq!(ip.ports.len(), 1);
    let states: Vec<_> = ip
        .endpoints
        .iter()
        .map(|e| (e.ready, e.serving, e.terminating))
        .collect();
    assert_eq!(
        states,
        [
            (true, true, false),
            (false, true, true),
            (false, false, false)
        ]
    );
    assert!(slice("FQDN").endpoints.is_empty());
}

#[test]
fn of_a_secret_only_certificate_and_key_are_kept() {
    let secret = valid::<TlsSecret>(&json(
        "{metadata: {name: x}, type: kubernetes.io/tls, data: {tls.crt: Q0VSVA==, tls.key: S0VZ, other: c2VjcmV0}}",
    ));
    assert_eq!(secret.certificate.as_deref(), Some("CERT"));
    assert_eq!(secret.key, Some(Redacted("KEY".into())));
    assert!(!format!("{secret:?}").contains("KEY"));
    let binary = valid::<TlsSecret>(&json("{metadata: {name: x}, data: {tls.crt: /w==}}"));
    assert_eq!((&*binary.kind, binary.certificate), ("Opaque", None));
    let plain = valid::<TlsSecret>(&json("{metadata: {name: x}, stringData: {tls.crt: CERT}}"));
    assert_eq!(plain.certificate.as_deref(), Some("CERT"));
    // Not even a reason tells what is in one.
    for text in [
        "{metadata: {name: x}, data: hunter2}",
        "{metadata: {name: x}, data: {tls.key: hunter2!}}",
        "{metadata: {name: x}, data: {tls.key: [hunter2]}}",
    ] {
        let object = object::<TlsSecret>(&json(text));
        assert!(object.valid().is_none(), "{text}");
        assert!(!format!("{object:?}").contains("hunter2"), "{object:?}");
    }
}

#[test]
fn namespaces_and_grants_are_read() {
    let namespace = valid::<Namespace>(&json("{metadata: {name: x, labels: {a: b}}}"));
    assert_eq!(namespace.labels.get("a").map(|value| &**value), Some("b"));
    let grant = valid::<ReferenceGrant>(&spec(
        "from: [{group: g, kind: k, namespace: n}]\nto: [{group: '', kind: Service}, {group: '', kind: Secret, name: s}, {group: '', kind: Secret, name: ''}]",
    ));
    let named: Vec<_> = grant.to.iter().map(|to| to.name.as_deref()).collect();
    assert_eq!(named, [None, Some("s"), None]);
    assert_eq!(&*grant.from[0].namespace, "n");
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
