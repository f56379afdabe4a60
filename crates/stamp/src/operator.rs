//! The operator's own Deployment: the one that OLM and the plain manifests install.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PodSpec, PodTemplateSpec, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use postern_api::ports;

use crate::{Images, labels, pods};

/// The name of its Deployment and ServiceAccount.
pub const NAME: &str = "postern-operator";
/// The architecture that images are built for, as Kubernetes names it.
pub const ARCHITECTURE: &str = "amd64";
/// Their operating system.
pub const OS: &str = "linux";

/// Its Deployment.
///
/// The program is told its own namespace and pod by `POSTERN_NAMESPACE` and `POSTERN_POD_NAME`,
/// and the images that it stamps by `RELATED_IMAGE_CONTROLPLANE` and `RELATED_IMAGE_PROXY` (the
/// names are OLM's, which rewrites them for disconnected clusters).
#[must_use]
pub fn deployment(namespace: Option<&str>, image: &str, images: &Images) -> Deployment {
    let own = labels::map(&[
        ("app.kubernetes.io/name", "postern"),
        ("app.kubernetes.io/part-of", "postern"),
        (labels::COMPONENT, "operator"),
    ]);
    let selected = labels::map(&[
        ("app.kubernetes.io/name", "postern"),
        (labels::COMPONENT, "operator"),
    ]);
    let container = Container {
        // The name that OLM's checks expect.
        name: "manager".into(),
        image: Some(image.into()),
        args: Some(vec!["run".into()]),
        env: Some(vec![
            pods::env_field("POSTERN_NAMESPACE", "metadata.namespace"),
            pods::env_field("POSTERN_POD_NAME", "metadata.name"),
            pods::env(
                "POSTERN_PROBES_ADDRESS",
                format!("0.0.0.0:{}", ports::CONTROL_PLANE_PROBES),
            ),
            pods::env("POSTERN_LOG_FORMAT", "json"),
            pods::env("RELATED_IMAGE_CONTROLPLANE", images.control_plane.clone()),
            pods::env("RELATED_IMAGE_PROXY", images.proxy.clone()),
        ]),
        ports: Some(vec![pods::container_port(
            "probes",
            ports::CONTROL_PLANE_PROBES,
        )]),
        resources: Some(ResourceRequirements {
            requests: Some(amounts(&[("cpu", "20m"), ("memory", "64Mi")])),
            limits: Some(amounts(&[("memory", "512Mi")])),
            claims: None,
        }),
        readiness_probe: Some(pods::probe("/readyz", ports::CONTROL_PLANE_PROBES, 5, 3)),
        liveness_probe: Some(pods::probe("/healthz", ports::CONTROL_PLANE_PROBES, 10, 6)),
        ..Container::default()
    };
    let mut pod = PodSpec {
        containers: vec![container],
        service_account_name: Some(NAME.into()),
        automount_service_account_token: Some(true),
        termination_grace_period_seconds: Some(30),
        affinity: Some(where_it_runs()),
        ..PodSpec::default()
    };
    pods::harden(&mut pod);
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(own.clone()),
            annotations: Some(pods::annotations()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod),
    };
    Deployment {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: namespace.map(str::to_owned),
            labels: Some(own),
            ..ObjectMeta::default()
        },
        spec: Some(pods::rolling(1, selected, template)),
        status: None,
    }
}

/// On nodes that its image is built for, as the bundle's labels say it.
fn where_it_runs() -> Affinity {
    let is = |key: &str, value: &str| NodeSelectorRequirement {
        key: key.into(),
        operator: "In".into(),
        values: Some(vec![value.into()]),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![
            is("kubernetes.io/arch", ARCHITECTURE),
            is("kubernetes.io/os", OS),
        ]),
        ..NodeSelectorTerm::default()
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn amounts(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, Quantity> {
    pairs
        .iter()
        .map(|(name, amount)| ((*name).into(), Quantity((*amount).into())))
        .collect()
}
