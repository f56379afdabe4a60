//! A checker of pods, for tests: Pod Security `restricted`
//! (kubernetes.io/docs/concepts/security/pod-security-standards) and OpenShift's restricted-v2,
//! and what we ask of our own pods beyond both.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// What a pod template has that it must not have, or lacks.
pub(crate) fn violations(template: &PodTemplateSpec) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    let Some(pod) = &template.spec else {
        return vec!["no spec".into()];
    };
    check(pod.host_network.is_none_or(|on| !on), "hostNetwork");
    check(pod.host_pid.is_none_or(|on| !on), "hostPID");
    check(pod.host_ipc.is_none_or(|on| !on), "hostIPC");
    check(
        pod.share_process_namespace.is_none_or(|on| !on),
        "shareProcessNamespace",
    );
    for volume in pod.volumes.iter().flatten() {
        let allowed = volume.secret.is_some()
            || volume.empty_dir.is_some()
            || volume.config_map.is_some()
            || volume.projected.is_some();
        check(allowed, "a volume of a type that is not allowed");
    }
    let security = pod.security_context.clone().unwrap_or_default();
    check(
        security.run_as_non_root == Some(true),
        "runAsNonRoot of the pod",
    );
    let seccomp = security.seccomp_profile.map(|profile| profile.type_);
    check(
        seccomp.as_deref() == Some("RuntimeDefault"),
        "seccompProfile of the pod",
    );
    check(security.sysctls.is_none(), "sysctls");
    // restricted-v2 gives user, group and SELinux label from the namespace's range.
    check(
        security.run_as_user.is_none() && security.run_as_group.is_none(),
        "user of the pod",
    );
    check(
        security.fs_group.is_none() && security.supplemental_groups.is_none(),
        "groups",
    );
    check(security.se_linux_options.is_none(), "SELinux of the pod");
    check(
        pod.init_containers.is_none() && pod.ephemeral_containers.is_none(),
        "more containers",
    );
    check(!pod.containers.is_empty(), "no container");
    for container in &pod.containers {
        let security = container.security_context.clone().unwrap_or_default();
        check(
            security.allow_privilege_escalation == Some(false),
            "allowPrivilegeEscalation",
        );
        check(security.privileged.is_none_or(|on| !on), "privileged");
        check(security.run_as_non_root == Some(true), "runAsNonRoot");
        check(
            security.run_as_user.is_none() && security.run_as_group.is_none(),
            "user",
        );
        check(security.proc_mount.is_none(), "procMount");
        check(security.se_linux_options.is_none(), "SELinux");
        let seccomp = security.seccomp_profile.map(|profile| profile.type_);
        check(
            seccomp.as_deref() == Some("RuntimeDefault"),
            "seccompProfile",
        );
        let capabilities = security.capabilities.unwrap_or_default();
        check(
            capabilities.drop == Some(vec!["ALL".into()]),
            "capabilities are not dropped",
        );
        check(capabilities.add.is_none(), "a capability is added");
        // Beyond the profiles.
        check(
            security.read_only_root_filesystem == Some(true),
            "readOnlyRootFilesystem",
        );
        check(
            container
                .ports
                .iter()
                .flatten()
                .all(|port| port.host_port.is_none()),
            "hostPort",
        );
        let resources = container.resources.clone().unwrap_or_default();
        for name in ["cpu", "memory"] {
            let requests = resources.requests.clone().unwrap_or_default();
            check(requests.contains_key(name), "a request is missing");
        }
        check(
            resources.limits.unwrap_or_default().contains_key("memory"),
            "no limit of memory",
        );
    }
    found
}

#[test]
fn the_checker_finds_what_must_not_be() {
    use k8s_openapi::api::core::v1::{Container, PodSpec};
    let bare = PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            containers: vec![Container::default()],
            host_network: Some(true),
            ..PodSpec::default()
        }),
    };
    let found = violations(&bare);
    for expected in [
        "hostNetwork",
        "runAsNonRoot",
        "capabilities are not dropped",
        "seccompProfile",
    ] {
        assert!(
            found.iter().any(|violation| violation == expected),
            "{expected}: {found:?}"
        );
    }
}
