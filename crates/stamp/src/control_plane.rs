//! The control plane: its Service and its pods.
//!
//! Its program is told where it is by `POSTERN_NAMESPACE`, `POSTERN_INSTANCE` and
//! `POSTERN_POD_NAME`, and where to listen by `POSTERN_XDS_ADDRESS`, `POSTERN_PROBES_ADDRESS` and
//! `POSTERN_METRICS_ADDRESS`; where the installation says how long certificates live, by
//! `POSTERN_CERTIFICATE_SECONDS`. All else is in its Entitlement, whose name follows from the
//! instance's.

use k8s_openapi::api::core::v1::{Container, PodSpec, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use postern_api::ports;

use crate::pods::{self, Defaults, Part, container_port, env, env_field, probe};
use crate::{Instance, Settings, Stamped, labels};

const DEFAULTS: Defaults = Defaults {
    cpu: "10m",
    memory: "32Mi",
    memory_limit: "256Mi",
};

/// The host name of the control plane's Service, within the cluster.
pub(crate) fn host(instance: &Instance<'_>) -> String {
    format!(
        "{}.{}.svc",
        instance.names().control_plane(),
        instance.home()
    )
}

/// The Service through which Envoys find it.
pub(crate) fn service(instance: &Instance<'_>) -> Stamped {
    Stamped::typed(&Service {
        metadata: instance.meta(instance.names().control_plane(), labels::CONTROL_PLANE),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(labels::select_control_plane(instance.name)),
            ports: Some(vec![ServicePort {
                name: Some("xds".into()),
                port: i32::from(ports::XDS),
                target_port: Some(IntOrString::Int(i32::from(ports::XDS))),
                protocol: Some("TCP".into()),
                ..ServicePort::default()
            }]),
            session_affinity: Some("None".into()),
            internal_traffic_policy: Some("Cluster".into()),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// Its Deployment and disruption budget.
pub(crate) fn pods(instance: &Instance<'_>, settings: &Settings) -> Vec<Stamped> {
    let listen = |port: u16| std::net::SocketAddr::new(settings.listen, port).to_string();
    let mut variables = vec![
        env_field("POSTERN_NAMESPACE", "metadata.namespace"),
        env("POSTERN_INSTANCE", instance.name),
        env_field("POSTERN_POD_NAME", "metadata.name"),
        env("POSTERN_XDS_ADDRESS", listen(ports::XDS)),
        env(
            "POSTERN_PROBES_ADDRESS",
            listen(ports::CONTROL_PLANE_PROBES),
        ),
        env(
            "POSTERN_METRICS_ADDRESS",
            listen(ports::CONTROL_PLANE_METRICS),
        ),
        env("POSTERN_LOG_FORMAT", "json"),
    ];
    variables.extend(
        settings
            .certificate_seconds
            .map(|seconds| env("POSTERN_CERTIFICATE_SECONDS", seconds.to_string())),
    );
    let container = Container {
        name: "controlplane".into(),
        image: Some(settings.images.control_plane.clone()),
        args: Some(vec!["run".into()]),
        env: Some(variables),
        ports: Some(vec![
            container_port("xds", ports::XDS),
            container_port("probes", ports::CONTROL_PLANE_PROBES),
            container_port("metrics", ports::CONTROL_PLANE_METRICS),
        ]),
        resources: Some(pods::resources(&instance.spec.control_plane, &DEFAULTS)),
        readiness_probe: Some(probe("/readyz", ports::CONTROL_PLANE_PROBES, 2, 3)),
        liveness_probe: Some(probe("/healthz", ports::CONTROL_PLANE_PROBES, 10, 6)),
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        service_account_name: Some(instance.names().control_plane()),
        automount_service_account_token: Some(true),
        termination_grace_period_seconds: Some(30),
        ..PodSpec::default()
    };
    let part = Part {
        name: instance.names().control_plane(),
        component: labels::CONTROL_PLANE,
        selected: labels::select_control_plane(instance.name),
        size: &instance.spec.control_plane,
    };
    pods::deployment(instance, part, pod)
}
