//! The Envoys of a shard.
//!
//! Nothing in their pods depends on Gateways, listeners or certificates: those come over xDS, and
//! a change of them replaces no pod.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, PodSpec, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use postern_api::entitlement::EntitlementStatus;
use postern_api::{ENVOY_TLS_DIR, TRUST_DOMAIN, ports};

use crate::pods::{self, Defaults, Part, container_port, env, env_field, probe};
use crate::{Instance, Observed, Settings, Stamped, control_plane, labels, quantity};

const DEFAULTS: Defaults = Defaults {
    cpu: "100m",
    memory: "128Mi",
    memory_limit: "512Mi",
};

const RUN_DIR: &str = "/run/postern";

/// On SIGTERM: at least so long until it ends, for Services to hear of it.
const MIN_DRAIN_SECONDS: i64 = 5;
/// At most so long for clients to leave.
const DRAIN_SECONDS: i64 = 45;
/// Then so long until it is killed.
const KILL_SECONDS: i64 = 5;
/// What the kubelet waits for all of it.
const GRACE_SECONDS: i64 = DRAIN_SECONDS + KILL_SECONDS + 10;

/// Envoy's heap is so many hundredths of the container's memory; the rest is for stacks, buffers of
/// the kernel and the supervisor.
const HEAP_PERCENT: u64 = 80;
/// The least heap that Envoy runs with.
const LEAST_HEAP: u64 = 16 << 20;

/// Their Deployment and disruption budget.
pub(crate) fn pods(
    instance: &Instance<'_>,
    entitlement: &EntitlementStatus,
    shard: &str,
    settings: &Settings,
    observed: &Observed,
) -> Vec<Stamped> {
    let listen = |port: u16| SocketAddr::new(settings.listen, port).to_string();
    let host = control_plane::host(instance);
    let xds = match observed.control_plane {
        Some(address) => SocketAddr::new(address, ports::XDS).to_string(),
        None => format!("{host}:{}", ports::XDS),
    };
    let resources = pods::resources(&instance.spec.proxy, &DEFAULTS);
    let heap = resources
        .limits
        .as_ref()
        .and_then(|limits| quantity::units(&limits.get("memory")?.0))
        .map(|bytes| bytes / 100 * HEAP_PERCENT)
        .filter(|bytes| *bytes >= LEAST_HEAP);
    let mut variables = vec![
        env("POSTERN_XDS", xds),
        env("POSTERN_XDS_SERVER_NAME", host),
        env("POSTERN_IDENTITY", identity(instance, entitlement, shard)),
        env_field("POSTERN_NODE_ID", "metadata.name"),
        env("POSTERN_TLS_DIR", ENVOY_TLS_DIR),
        env("POSTERN_STATE_DIR", format!("{RUN_DIR}/state")),
        env("POSTERN_READINESS_ADDRESS", listen(ports::PROXY_PROBES)),
        env("POSTERN_METRICS_ADDRESS", listen(ports::PROXY_METRICS)),
        env("POSTERN_MIN_DRAIN_SECONDS", MIN_DRAIN_SECONDS.to_string()),
        env("POSTERN_DRAIN_SECONDS", DRAIN_SECONDS.to_string()),
        env("POSTERN_KILL_SECONDS", KILL_SECONDS.to_string()),
        env("POSTERN_LOG_FORMAT", "json"),
    ];
    variables.extend(heap.map(|bytes| env("POSTERN_MAX_HEAP", bytes.to_string())));
    let container = Container {
        name: "envoy".into(),
        image: Some(settings.images.proxy.clone()),
        args: Some(vec!["run".into()]),
        env: Some(variables),
        ports: Some(vec![
            container_port("probes", ports::PROXY_PROBES),
            container_port("metrics", ports::PROXY_METRICS),
        ]),
        resources: Some(resources),
        readiness_probe: Some(probe("/ready", ports::PROXY_PROBES, 2, 2)),
        volume_mounts: Some(vec![
            VolumeMount {
                name: "tls".into(),
                mount_path: ENVOY_TLS_DIR.into(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
            VolumeMount {
                name: "run".into(),
                mount_path: RUN_DIR.into(),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        volumes: Some(vec![
            Volume {
                name: "tls".into(),
                // Not optional: the pod waits until the control plane has made it.
                secret: Some(SecretVolumeSource {
                    secret_name: Some(instance.names().envoy_tls(shard)),
                    default_mode: Some(0o444),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            },
            Volume {
                name: "run".into(),
                empty_dir: Some(EmptyDirVolumeSource {
                    size_limit: Some(Quantity("64Mi".into())),
                    medium: None,
                }),
                ..Volume::default()
            },
        ]),
        service_account_name: Some(instance.names().envoy(shard)),
        automount_service_account_token: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        ..PodSpec::default()
    };
    let part = Part {
        name: instance.names().envoy(shard),
        component: labels::ENVOY,
        selected: labels::select_envoys(instance.name, Some(shard)),
        size: &instance.spec.proxy,
    };
    pods::deployment(instance, part, pod)
}

/// `spiffe://<trust domain>/ns/<namespace>/instance/<name>/shard/<shard>`, as the control plane
/// writes it into the mounted certificate.
fn identity(instance: &Instance<'_>, entitlement: &EntitlementStatus, shard: &str) -> String {
    let domain = match entitlement.trust_domain.as_str() {
        "" => TRUST_DOMAIN,
        domain => domain,
    };
    format!(
        "spiffe://{domain}/ns/{}/instance/{}/shard/{shard}",
        instance.namespace, instance.name
    )
}
