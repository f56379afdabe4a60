//! What the pods of all parts have in common: hardening, sizes, Deployments, budgets.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecurityContext, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use postern_api::instance::{Size, TaintEffect, TolerationOperator};

use crate::{Instance, Stamped, labels, quantity};

/// Pins the OpenShift profile, so that a stronger one that the ServiceAccount may use is not taken.
const REQUIRED_SCC: (&str, &str) = ("openshift.io/required-scc", "restricted-v2");

/// A part of the gateway that runs as pods.
pub(crate) struct Part<'a> {
    /// Name of its objects.
    pub(crate) name: String,
    /// Its component label.
    pub(crate) component: &'static str,
    /// Labels that pick its pods.
    pub(crate) selected: BTreeMap<String, String>,
    /// How many, and on which nodes.
    pub(crate) size: &'a Size,
}

/// The Deployment, and where there is more than one pod its disruption budget.
pub(crate) fn deployment(
    instance: &Instance<'_>,
    part: Part<'_>,
    mut pod: PodSpec,
) -> Vec<Stamped> {
    let Part {
        name,
        component,
        selected,
        size,
    } = part;
    let replicas = replicas(size);
    let mut pod_labels = labels::of(instance.name, component);
    pod_labels.extend(selected.clone());
    harden(&mut pod);
    place(&mut pod, size);
    pod.topology_spread_constraints = Some(vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        // A single node must do, for rollouts too.
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(labels::selector(selected.clone())),
        match_label_keys: Some(vec!["pod-template-hash".into()]),
        ..TopologySpreadConstraint::default()
    }]);
    let deployment = Deployment {
        metadata: instance.meta(name.clone(), component),
        spec: Some(rolling(
            replicas,
            selected.clone(),
            PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(annotations()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
        )),
        status: None,
    };
    let mut objects = vec![Stamped::typed(&deployment)];
    if replicas > 1 {
        objects.push(Stamped::typed(&PodDisruptionBudget {
            metadata: instance.meta(name, component),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(labels::selector(selected)),
                // A pod that is not up serves nobody, and must not stop a node from draining.
                unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
                ..PodDisruptionBudgetSpec::default()
            }),
            status: None,
        }));
    }
    objects
}

/// On the nodes that were asked for.
fn place(pod: &mut PodSpec, size: &Size) {
    pod.node_selector = (!size.node_selector.is_empty()).then(|| size.node_selector.clone());
    let tolerations = size.tolerations.iter().map(|asked| Toleration {
        key: asked.key.clone(),
        operator: asked.operator.map(|operator| match operator {
            TolerationOperator::Exists => "Exists".into(),
            TolerationOperator::Equal => "Equal".into(),
        }),
        value: asked.value.clone(),
        effect: asked.effect.map(|effect| match effect {
            TaintEffect::NoSchedule => "NoSchedule".into(),
            TaintEffect::PreferNoSchedule => "PreferNoSchedule".into(),
            TaintEffect::NoExecute => "NoExecute".into(),
        }),
        toleration_seconds: asked.toleration_seconds,
    });
    pod.tolerations = (!size.tolerations.is_empty()).then(|| tolerations.collect());
}

/// Pods of a Deployment that are replaced without a gap.
pub(crate) fn rolling(
    replicas: i32,
    selected: BTreeMap<String, String>,
    template: PodTemplateSpec,
) -> DeploymentSpec {
    DeploymentSpec {
        replicas: Some(replicas),
        revision_history_limit: Some(2),
        progress_deadline_seconds: Some(600),
        selector: labels::selector(selected),
        strategy: Some(DeploymentStrategy {
            type_: Some("RollingUpdate".into()),
            // A new pod is ready before an old one goes: no request fails.
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(IntOrString::Int(1)),
                max_unavailable: Some(IntOrString::Int(0)),
            }),
        }),
        template,
        ..DeploymentSpec::default()
    }
}

/// Annotations of every pod.
pub(crate) fn annotations() -> BTreeMap<String, String> {
    labels::map(&[REQUIRED_SCC])
}

/// Pod Security `restricted` and OpenShift's restricted-v2: user, group and SELinux label come from
/// the image or the namespace, so none is set.
pub(crate) fn harden(pod: &mut PodSpec) {
    pod.enable_service_links = Some(false);
    pod.restart_policy = Some("Always".into());
    pod.dns_policy = Some("ClusterFirst".into());
    pod.scheduler_name = Some("default-scheduler".into());
    // The older name of the same field, which API servers fill in.
    pod.service_account.clone_from(&pod.service_account_name);
    pod.security_context = Some(PodSecurityContext {
        run_as_non_root: Some(true),
        seccomp_profile: Some(runtime_default()),
        ..PodSecurityContext::default()
    });
    for container in &mut pod.containers {
        container.image_pull_policy = Some("IfNotPresent".into());
        container.termination_message_path = Some("/dev/termination-log".into());
        container.termination_message_policy = Some("FallbackToLogsOnError".into());
        container.security_context = Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                add: None,
            }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            seccomp_profile: Some(runtime_default()),
            ..SecurityContext::default()
        });
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".into(),
        localhost_profile: None,
    }
}

/// How many pods a size asks for.
fn replicas(size: &Size) -> i32 {
    size.replicas.unwrap_or(1).max(0)
}

/// What a part asks for where its size says nothing.
pub(crate) struct Defaults {
    pub(crate) cpu: &'static str,
    pub(crate) memory: &'static str,
    pub(crate) memory_limit: &'static str,
}

/// Requests and limits: those of the size, and else small ones. There is always a limit of memory,
/// since Envoy's own limit comes from it; a limit of CPU only where it is asked for.
pub(crate) fn resources(size: &Size, defaults: &Defaults) -> ResourceRequirements {
    let given = |map: &BTreeMap<String, Quantity>| -> BTreeMap<String, Quantity> {
        let amount = |text: &Quantity| Quantity(quantity::canonical(&text.0));
        map.iter()
            .map(|(name, text)| (name.clone(), amount(text)))
            .collect()
    };
    let (mut requests, mut limits) = (given(&size.requests), given(&size.limits));
    if !limits.contains_key("memory") {
        let asked = requests
            .get("memory")
            .map(|asked| asked.0.as_str())
            .unwrap_or_default();
        let limit = match quantity::units(asked) > quantity::units(defaults.memory_limit) {
            true => asked,
            false => defaults.memory_limit,
        };
        limits.insert("memory".into(), Quantity(limit.into()));
    }
    for (name, default) in [("cpu", defaults.cpu), ("memory", defaults.memory)] {
        if !requests.contains_key(name) {
            // No more than the limit: else the pod would be refused.
            let limit = limits.get(name).map(|limit| limit.0.clone());
            let small = limit.filter(|limit| is_less(limit, default));
            requests.insert(
                name.into(),
                Quantity(small.unwrap_or_else(|| default.into())),
            );
        }
    }
    ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits),
        claims: None,
    }
}

fn is_less(one: &str, other: &str) -> bool {
    match (quantity::millis(one), quantity::millis(other)) {
        (Some(one), Some(other)) => one < other,
        _ => false,
    }
}

/// A variable with a value.
pub(crate) fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    }
}

/// A variable from the pod's own metadata.
pub(crate) fn env_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: path.into(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

pub(crate) fn container_port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: i32::from(number),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

/// A probe by HTTP.
pub(crate) fn probe(path: &str, port: u16, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(i32::from(port)),
            scheme: Some("HTTP".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(3),
        success_threshold: Some(1),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
