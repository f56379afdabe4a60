//! What to do about each reason. Commands are such as the one who takes the step may run.

use postern_api::names::{self, InstanceNames};
use postern_api::reasons::Reason;

use crate::problem::{Step, Subject};
use crate::read::{Id, Named, World};

/// What advice may name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context<'a> {
    /// The TenantGrants in force.
    pub granted_by: &'a [String],
    /// The instance that serves it.
    pub instance: &'a str,
    /// The Gateway that it is about.
    pub gateway: &'a str,
    /// Whether the operator keeps that Gateway for the instance's own listeners.
    pub kept: bool,
    /// The Secrets that it names.
    pub secrets: Vec<Named>,
}

impl<'a> Context<'a> {
    /// With what is known of an instance.
    pub(crate) fn with(self, world: &'a World, instance: &'a Id) -> Context<'a> {
        let known = world.instances.get(instance);
        let granted = known.and_then(|known| known.granted.as_ref());
        Context {
            instance: &instance.1,
            granted_by: granted.map(|granted| &*granted.by).unwrap_or_default(),
            ..self
        }
    }

    fn control_plane(&self) -> String {
        InstanceNames::new(self.instance).control_plane()
    }

    fn gateway(&self) -> &str {
        plain(self.gateway)
    }

    fn instance(&self) -> &str {
        plain(self.instance)
    }
}

/// A name for a command. What a reference names is any text; what is no object's name would be
/// another command's words, or a shell's.
pub(crate) fn plain(name: &str) -> &str {
    let is_plain = name.len() <= 253
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if is_plain { name } else { "NAME" }
}

/// The next steps about a condition of this reason.
pub(crate) fn about(subject: &Subject<'_>, word: &str, context: &Context<'_>) -> Vec<Step> {
    match Reason::parse(word) {
        Some(reason) => steps(subject, reason, context),
        None => vec![read_again(subject)],
    }
}

/// Where nothing better can be said than that the message says it.
fn read_again(subject: &Subject<'_>) -> Step {
    Step::tenant(
        "see the whole object with its conditions",
        subject.command(&format!("get {} -o yaml", subject.argument())),
    )
}

/// Changes an object where people write it: listeners of a Gateway that is kept for an instance stand
/// in the instance, by the same fields.
fn edit(subject: &Subject<'_>, context: &Context<'_>, what: &str) -> Step {
    let argument = match context.kept && subject.kind == "Gateway" {
        true => format!("gatewayinstance {}", context.instance()),
        false => subject.argument(),
    };
    Step::tenant(what, subject.command(&format!("edit {argument}")))
}

/// What an admin changes in the grants in force.
fn grant(context: &Context<'_>, what: &str) -> Step {
    match context.granted_by.first() {
        Some(name) if plain(name) == name => Step::admin(
            format!("{what} in the TenantGrant {name}"),
            format!("kubectl edit tenantgrant {name}"),
        ),
        _ => Step::admin(
            format!("{what} in a TenantGrant"),
            "kubectl get tenantgrants",
        ),
    }
}

fn apply_grant(what: &str) -> Step {
    Step::admin(what, "kubectl apply -f grant.yaml")
}

fn logs(subject: &Subject<'_>, context: &Context<'_>) -> Step {
    let run = format!("logs deployment/{} --tail=50", context.control_plane());
    Step::tenant("see what the control plane says", subject.command(&run))
}

/// Every reason has its steps: a new one does not compile without.
fn steps(subject: &Subject<'_>, reason: Reason, context: &Context<'_>) -> Vec<Step> {
    let command = |rest: &str| subject.command(rest);
    match reason {
        // It is accepted, but for what the message names.
        Reason::Accepted if subject.kind == "HTTPRoute" => {
            vec![edit(subject, context, "correct the field, or remove it")]
        }
        // Good ones; if such a condition is in its bad state, what it says is all that is known.
        Reason::Accepted
        | Reason::SupportedVersion
        | Reason::Programmed
        | Reason::NoConflicts
        | Reason::ResolvedRefs
        | Reason::Exposed
        | Reason::Ready => vec![read_again(subject)],

        Reason::NotGranted => vec![
            Step::tenant(
                "hand the TenantGrant to your platform's admins, as grant.yaml",
                "",
            ),
            apply_grant("review it, and apply it"),
        ],
        Reason::ExposureNotGranted => vec![
            edit(subject, context, "ask for an exposure that is granted"),
            apply_grant("or review the TenantGrant, and apply it"),
        ],
        Reason::HostnameNotGranted => vec![
            edit(subject, context, "use a hostname that is granted"),
            grant(context, "or add the hostname"),
        ],
        Reason::AddressPoolNotGranted => vec![
            edit(
                subject,
                context,
                "ask for a pool that is granted, or for none",
            ),
            grant(context, "or add the pool"),
        ],
        Reason::QuotaExceeded => vec![
            match subject.kind {
                "HTTPRoute" => Step::tenant(
                    "remove routes that are not needed; the newest are refused first",
                    command("get httproutes --sort-by=.metadata.creationTimestamp"),
                ),
                _ => edit(subject, context, "remove what is not needed"),
            },
            grant(context, "or raise spec.quotas"),
        ],
        Reason::NotServed => vec![edit(subject, context, "ask for another exposure")],

        Reason::InvalidParameters if subject.kind == "Gateway" => vec![
            Step::tenant(
                "create the GatewayInstance: apply this, as instance.yaml",
                command("apply -f instance.yaml"),
            ),
            edit(
                subject,
                context,
                "or name another in spec.infrastructure.parametersRef",
            ),
        ],
        Reason::InvalidParameters => vec![Step::admin(
            "correct or remove spec.parametersRef of the GatewayClass",
            "kubectl get gatewayclasses",
        )],
        Reason::UnsupportedVersion => vec![Step::admin(
            "install CRDs of the Gateway API of a version that this one knows",
            "kubectl get crd gateways.gateway.networking.k8s.io -o yaml",
        )],
        Reason::Invalid | Reason::UnsupportedValue | Reason::IncompatibleFilters => {
            vec![edit(subject, context, "correct the field, or remove it")]
        }
        Reason::ListenersNotValid
        | Reason::HostnameConflict
        | Reason::ProtocolConflict
        | Reason::PortUnavailable
        | Reason::InvalidRouteKinds => vec![edit(subject, context, "correct the listener")],
        Reason::UnsupportedProtocol | Reason::InvalidKind => {
            vec![edit(subject, context, "use one that is built")]
        }
        Reason::NoPortLeft => vec![edit(subject, context, "use fewer ports")],
        Reason::UnsupportedAddress | Reason::AddressNotUsable => {
            vec![edit(
                subject,
                context,
                "remove spec.addresses, or ask for another",
            )]
        }
        Reason::AddressNotAssigned => {
            let service = names::gateway_service(context.gateway());
            vec![Step::tenant(
                "see what the load balancer says",
                command(&format!("describe service {service}")),
            )]
        }
        Reason::NoResources | Reason::Progressing => vec![
            Step::tenant("see the pods", command("get pods")),
            Step::tenant(
                "see what keeps them",
                command("get events --sort-by=.lastTimestamp"),
            ),
        ],
        Reason::Pending => vec![
            Step::tenant(
                "wait a few seconds, and ask again",
                format!("kubectl postern status -n {}", subject.namespace),
            ),
            logs(subject, context),
        ],
        Reason::InvalidCertificateRef => certificates(subject, context),
        Reason::RefNotPermitted => vec![edit(subject, context, "name an object of this namespace")],
        Reason::NotAllowedByListeners
        | Reason::NoMatchingListenerHostname
        | Reason::NoMatchingParent => vec![
            Step::tenant(
                "see the Gateway's listeners: names, ports, hostnames, allowedRoutes",
                command(&format!("get gateway {} -o yaml", context.gateway())),
            ),
            edit(subject, context, "make the route name one that takes it"),
        ],
        Reason::BackendNotFound => vec![
            Step::tenant("see which Services there are", command("get services")),
            edit(
                subject,
                context,
                "correct the name or the port, or create the Service",
            ),
        ],
        Reason::RouteNotAdmitted => vec![
            Step::tenant(
                "see what the router says",
                command("describe routes.route.openshift.io"),
            ),
            Step::tenant(
                "ask for a host that nobody has, in spec.exposure.route.hosts or in the listener",
                command(&format!("edit gatewayinstance {}", context.instance())),
            ),
            Step::admin(
                "or free the host",
                "kubectl get routes.route.openshift.io --all-namespaces",
            ),
        ],
        Reason::NoMatchingListener => vec![
            Step::tenant(
                "add a listener that the exposure leads to",
                command(&format!("get gateway {} -o yaml", context.gateway())),
            ),
            Step::tenant(
                "or use another exposure",
                command(&format!("edit gatewayinstance {}", context.instance())),
            ),
        ],
        Reason::NameInUse => vec![Step::tenant(
            "delete or rename the object that has the name",
            command("get all,networkpolicies,roles,rolebindings"),
        )],
        Reason::WriteRefused => vec![
            Step::tenant(
                "see quotas of the namespace",
                command("describe resourcequotas"),
            ),
            Step::admin(
                "or see which admission policy refuses it",
                "kubectl get validatingadmissionpolicies",
            ),
        ],
        Reason::BackendNotReachable => vec![Step::tenant(
            "hand the policy to the owner of the backend, who applies it",
            "",
        )],
        Reason::OlderClaim => vec![edit(
            subject,
            context,
            "remove this claim, or the older one",
        )],
    }
}

fn certificates(subject: &Subject<'_>, context: &Context<'_>) -> Vec<Step> {
    let created = context.secrets.iter().map(|secret| {
        let namespace = plain(secret.namespace.as_deref().unwrap_or(subject.namespace));
        let run = format!(
            "kubectl -n {namespace} create secret tls {} --cert=tls.crt --key=tls.key",
            plain(&secret.name)
        );
        Step::tenant("create the Secret, or replace what it holds", run)
    });
    let named = edit(subject, context, "or name another Secret");
    created.chain([named]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_gets_into_no_command() {
        let subject = Subject {
            kind: "Gateway",
            namespace: "n",
            name: "x",
            about: "",
        };
        for name in ["a b", "--as=admin", "x;reboot", "$(x)", "a\nb", ""] {
            let context = Context {
                instance: name,
                gateway: name,
                secrets: vec![Named {
                    name: name.into(),
                    namespace: Some(name.into()),
                    ..Named::default()
                }],
                ..Context::default()
            };
            for reason in [
                "InvalidCertificateRef",
                "RouteNotAdmitted",
                "NoMatchingParent",
            ] {
                let steps = about(&subject, reason, &context);
                let mut runs = steps.iter().map(|step| &step.run);
                assert!(runs.any(|run| run.contains("NAME")), "{steps:?}");
                for step in &steps {
                    assert!(name.is_empty() || !step.run.contains(name), "{steps:?}");
                }
            }
        }
    }

    #[test]
    fn every_reason_has_a_step_and_every_command_can_be_copied() {
        let by = ["shop".to_owned()];
        let context = Context {
            granted_by: &by,
            instance: "default",
            gateway: "web",
            kept: false,
            secrets: vec![Named {
                name: "cert".into(),
                ..Named::default()
            }],
        };
        for kind in ["GatewayInstance", "Gateway", "HTTPRoute", "GatewayClass"] {
            let subject = Subject {
                kind,
                namespace: "n",
                name: "x",
                about: "",
            };
            for reason in Reason::ALL {
                let steps = about(&subject, reason.as_str(), &context);
                assert!(!steps.is_empty(), "{kind} {reason}");
                for step in steps {
                    assert!(!step.run.contains([';', '|', '$', '`']), "{}", step.run);
                    assert!(!step.what.is_empty(), "{kind} {reason}");
                    assert!(
                        step.run.is_empty() || step.run.starts_with("kubectl "),
                        "{kind} {reason}: {}",
                        step.run
                    );
                    assert!(!step.run.contains("  "), "{kind} {reason}: {}", step.run);
                }
            }
        }
    }
}
