//! The objects of the stand-in in the cluster.

use serde_json::{Value, json};

use crate::build::digest;
use crate::router::{Mode, NAMESPACE, Settings};

/// The image of the stand-in.
pub(crate) const IMAGE: &str = "postern.test/router-stand-in:dev";
/// Deployment, Service and ServiceAccount, called as on OpenShift (the account there is `router`).
pub(crate) const DEPLOYMENT: &str = "router-default";
const ACCOUNT: &str = "router";
const POLICY: &str = "route-custom-host";
/// What it may do in all namespaces, and the binding.
pub(crate) const ROLE: &str = "openshift-ingress-router";

/// Where OpenShift's routers run: labelled as there, and free to use the host's network.
pub(crate) fn namespace() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": {
                "policy-group.network.openshift.io/ingress": "",
                "network.openshift.io/policy-group": "ingress",
                "pod-security.kubernetes.io/enforce": "privileged",
            },
        },
    })
}

/// The check that OpenShift's API server makes when a Route is written, as a policy of a plain API
/// server: hosts, and certificates in a Route, are for those who may write `routes/custom-host`.
/// Creation asks for `create`; a change of host or subdomain asks for `update`; a change of
/// certificates for either; taking certificates away for nothing.
pub(crate) fn custom_host() -> [Value; 2] {
    let field = |object: &str, path: &str| format!("{object}.spec.?{path}.orValue('')");
    let tls = |object: &str| {
        let fields = [
            "certificate",
            "key",
            "caCertificate",
            "destinationCACertificate",
            "?externalCertificate.?name",
        ];
        let values = fields.map(|name| {
            let name = name.trim_start_matches('?');
            field(object, &format!("tls.?{name}"))
        });
        format!("[{}]", values.join(", "))
    };
    let may = |verb: &str| {
        format!(
            "authorizer.group('route.openshift.io').resource('routes').subresource('custom-host')\
             .namespace(request.namespace).check('{verb}').allowed()"
        )
    };
    let differs = |name: &str| format!("{} != {}", field("object", name), field("oldObject", name));
    let certificates = tls("object");
    let external = field("object", "tls.?externalCertificate.?name");
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["route.openshift.io"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["routes"],
            }]},
            "variables": [
                {"name": "new", "expression": "request.operation == 'CREATE'"},
                {"name": "certificates", "expression": format!("{certificates}.exists(text, text != '')")},
                {"name": "host", "expression": format!(
                    "variables.new ? {} != '' : {}", field("object", "host"), differs("host"),
                )},
                {"name": "subdomain", "expression": format!("!variables.new && ({})", differs("subdomain"))},
                // What is in a Secret may have changed under the same name.
                {"name": "changed", "expression": format!(
                    "variables.certificates && (variables.new || {external} != '' || {certificates} != {})",
                    tls("oldObject"),
                )},
                {"name": "create", "expression": may("create")},
                {"name": "update", "expression": may("update")},
            ],
            "validations": [
                {
                    "expression": "!variables.host || (variables.new ? variables.create : variables.update)",
                    "message": "spec.host: you do not have permission to set the host field of the route",
                    "reason": "Forbidden",
                },
                {
                    "expression": "!variables.subdomain || variables.update",
                    "message": "spec.subdomain: you do not have permission to set the subdomain field of the route",
                    "reason": "Forbidden",
                },
                {
                    "expression":
                        "!variables.changed || variables.create || !variables.new && variables.update",
                    "message": "spec.tls: you do not have permission to set certificate fields on the route",
                    "reason": "Forbidden",
                },
            ],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY},
        "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
    });
    [policy, binding]
}

/// The stand-in: its rights, its default certificate, and the pod.
pub(crate) fn router(settings: &Settings, certificate: &str, key: &str) -> Vec<Value> {
    let labels = json!({
        "ingresscontroller.operator.openshift.io/deployment-ingresscontroller": settings.name,
    });
    let named = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    let mut files = json!({"tls.crt": certificate, "tls.key": key});
    if let Some(authority) = &settings.service_ca {
        files["service-ca.crt"] = authority.as_str().into();
    }
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named(ACCOUNT)}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": ROLE},
            "rules": [
                {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
                // OpenShift's router may not write Routes: their hosts are made by the API server
                // there, and by the stand-in here.
                {
                    "apiGroups": ["route.openshift.io"],
                    "resources": ["routes", "routes/custom-host"],
                    "verbs": ["list", "watch", "update"],
                },
                {
                    "apiGroups": ["route.openshift.io"],
                    "resources": ["routes/status"],
                    "verbs": ["update"],
                },
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": ROLE},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": ROLE,
            },
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": named("router-certs-default"),
            "stringData": files,
        }),
        deployment(settings, &labels, certificate),
    ];
    if settings.mode == Mode::PodNetwork {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": named(DEPLOYMENT),
            "spec": {
                "type": "NodePort",
                "externalTrafficPolicy": "Local",
                "selector": labels,
                "ports": [
                    {"name": "http", "port": 80, "targetPort": 80},
                    {"name": "https", "port": 443, "targetPort": 443},
                ],
            },
        }));
    }
    objects
}

fn deployment(settings: &Settings, labels: &Value, certificate: &str) -> Value {
    let host = settings.mode == Mode::HostNetwork;
    let mut arguments = vec![
        format!("-name={}", settings.name),
        format!("-domain={}", settings.domain),
        format!("-canonical-hostname={}", settings.canonical()),
        "-certificate=/etc/router/tls".to_owned(),
    ];
    if settings.wildcards {
        arguments.push("-wildcards".to_owned());
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE},
        "spec": {
            "replicas": 1,
            // Two would want the same ports of the host.
            "strategy": if host { json!({"type": "Recreate"}) } else { json!({"type": "RollingUpdate"}) },
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {
                    "labels": labels,
                    // It reads its certificate when it starts.
                    "annotations": {"postern.test/certificate": digest(certificate)},
                },
                "spec": {
                    "serviceAccountName": ACCOUNT,
                    "hostNetwork": host,
                    "containers": [{
                        "name": "router",
                        "image": IMAGE,
                        "args": arguments,
                        "readinessProbe": {
                            "httpGet": {"path": "/", "port": 1936},
                            "periodSeconds": 1,
                        },
                        // As root without root's rights: ports below 1024, and no more.
                        "securityContext": {
                            "runAsUser": 0,
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "volumeMounts": [
                            {"name": "run", "mountPath": "/run/router"},
                            {"name": "certificate", "mountPath": "/etc/router/tls"},
                        ],
                    }],
                    "volumes": [
                        {"name": "run", "emptyDir": {}},
                        {"name": "certificate", "secret": {"secretName": "router-certs-default"}},
                    ],
                },
            },
        },
    })
}
