//! Kinds of Kubernetes itself, and ReferenceGrants.

use super::*;

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
