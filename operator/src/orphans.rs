//! Statuses of Gateways of ours that have no control plane to write them: those that name no
//! instance, one that is not there, or one that gets nothing.
//!
//! Each status has one writer. As soon as the instance's control plane is there, the Gateway
//! drops out of what this gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_api::DEFAULT_INSTANCE;
use postern_api::reasons::{ConditionType, Reason};
use postern_consent::{Facts, Missing, Ownership, Refusal, is_bare, missing, owner};
use postern_refs::objects::Gateway;
use postern_refs::status::{Condition, GatewayStatus, Status, Statuses, Truth};
use postern_refs::{Key, Kind, Object, Snapshot};

use crate::problem::Problem;

/// How it stands with an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its control plane is there, or will be soon: nothing is to be written.
    Served,
    /// It gets nothing.
    Refused(Reason),
    /// There is none of this key, nor anything of it; and why it could not be made, if that was
    /// tried.
    Absent(Option<Problem>),
}

/// What becomes of the bare Gateways of instances that are absent, once for each instance: there may
/// be many Gateways.
type Absentees = BTreeMap<Key, Option<Result<Missing, Refusal>>>;

/// The statuses to be written.
#[must_use]
pub fn statuses(
    snapshot: &Snapshot,
    cluster: &Facts,
    standing: impl Fn(&Key) -> Standing,
) -> Statuses {
    let mut statuses = Statuses::new();
    let mut absentees = Absentees::new();
    for (key, gateway) in snapshot.gateways.iter() {
        let (reason, message) = match owner(snapshot, &cluster.classes, gateway) {
            Ownership::NotOurs => continue,
            Ownership::Wrong { field, message } => {
                (Reason::InvalidParameters, format!("{field}: {message}"))
            }
            Ownership::Instance(instance) => match standing(&instance) {
                Standing::Served => continue,
                Standing::Refused(reason) => (
                    reason,
                    format!(
                        "the GatewayInstance {} is not accepted; its status says why",
                        instance.name
                    ),
                ),
                Standing::Absent(_) if !is_bare(gateway) => (
                    Reason::InvalidParameters,
                    format!(
                        "spec.infrastructure.parametersRef: there is no GatewayInstance {} in this \
                         namespace; create it or name another",
                        instance.name
                    ),
                ),
                Standing::Absent(problem) => {
                    let becomes = absentees
                        .entry(instance)
                        .or_insert_with_key(|instance| missing(snapshot, instance, cluster));
                    match bare(becomes.as_ref(), problem) {
                        Some(told) => told,
                        None => continue,
                    }
                }
            },
        };
        let status = status(gateway, reason, &message);
        statuses.insert(
            (Kind::Gateway, key.clone()),
            Arc::new(Status::Gateway(status)),
        );
    }
    statuses
}

/// What a bare Gateway is told: nothing, while its instance is on its way.
fn bare(
    becomes: Option<&Result<Missing, Refusal>>,
    problem: Option<Problem>,
) -> Option<(Reason, String)> {
    match becomes? {
        Err(refusal) => Some((refusal.reason, refusal.message.clone())),
        Ok(missing) => {
            let problem = problem?;
            let told = format!(
                "no GatewayInstance {DEFAULT_INSTANCE} could be made from spec.instanceTemplate of \
                 the TenantGrant {}: {problem}",
                missing.grant
            );
            Some((problem.reason()?, told))
        }
    }
}

fn status(gateway: &Object<Gateway>, reason: Reason, message: &str) -> GatewayStatus {
    let condition = |kind: ConditionType, reason: Reason, message: &str| Condition {
        kind: kind.into(),
        status: Truth::False,
        reason: reason.into(),
        message: message.into(),
        observed_generation: gateway.meta.generation,
    };
    GatewayStatus {
        addresses: Vec::new(),
        conditions: vec![
            condition(ConditionType::Accepted, reason, message),
            condition(
                ConditionType::Programmed,
                Reason::Invalid,
                "the Gateway is not accepted",
            ),
        ],
        listeners: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use postern_api::grant::InstanceTemplate;
    use postern_api::instance::ExposureType;
    use postern_api::{CONTROLLER_NAME, TenantGrantSpec};
    use postern_refs::Name;
    use postern_refs::objects::GatewayClass;
    use postern_refs::{Body, Meta, ObjectRef};

    use super::*;

    fn object<T>(namespace: &str, name: &str, body: T) -> Arc<Object<T>> {
        Arc::new(Object {
            meta: Meta {
                key: Key::new(namespace, name),
                uid: "u".into(),
                generation: 4,
                created: 0,
            },
            body: Body::Valid(body),
            unsupported: Vec::new(),
        })
    }

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        let classes = Arc::make_mut(&mut snapshot.gateway_classes);
        for (name, controller) in [("postern", CONTROLLER_NAME), ("other", "other.example/c")] {
            let class = GatewayClass {
                controller: controller.into(),
                parameters: None,
            };
            classes.insert(Key::new("", name), object("", name, class));
        }
        let gateways = Arc::make_mut(&mut snapshot.gateways);
        let names = [
            ("served", "postern", "GatewayInstance"),
            ("refused", "postern", "GatewayInstance"),
            ("absent", "postern", "GatewayInstance"),
            ("wrong", "postern", "ConfigMap"),
            ("foreign", "other", "ConfigMap"),
        ];
        for (name, class, kind) in names {
            let gateway = Gateway {
                class: class.into(),
                listeners: Vec::new(),
                parameters: Some(ObjectRef {
                    group: postern_api::GROUP.into(),
                    kind: kind.into(),
                    namespace: None,
                    name: name.into(),
                }),
            };
            gateways.insert(Key::new("n", name), object("n", name, gateway));
        }
        snapshot
    }

    /// The Gateways that are told something: name, reason and message.
    fn told(snapshot: &Snapshot, standing: impl Fn(&Key) -> Standing) -> Vec<(Name, Name, Name)> {
        let statuses = statuses(snapshot, &Facts::default(), standing);
        let told = statuses.iter().map(|((_, key), status)| {
            let Status::Gateway(status) = &**status else {
                panic!("a Gateway's status");
            };
            assert!(status.conditions.iter().all(|c| c.observed_generation == 4));
            assert!(status.conditions.iter().all(|c| c.status == Truth::False));
            let accepted = &status.conditions[0];
            (
                key.name.clone(),
                accepted.reason.clone(),
                accepted.message.clone(),
            )
        });
        told.collect()
    }

    #[test]
    fn each_gateway_without_a_control_plane_gets_a_status_and_no_other() {
        let told = told(&snapshot(), |instance| match &*instance.name {
            "served" => Standing::Served,
            "refused" => Standing::Refused(Reason::NotGranted),
            _ => Standing::Absent(None),
        });
        let told: Vec<(&str, &str)> = told
            .iter()
            .map(|(name, reason, _)| (&**name, &**reason))
            .collect();
        assert_eq!(
            told,
            [
                ("absent", "InvalidParameters"),
                ("refused", "NotGranted"),
                ("wrong", "InvalidParameters")
            ]
        );
    }

    #[test]
    fn a_bare_gateway_says_what_keeps_its_instance_from_being_made() {
        let mut snapshot = snapshot();
        let gateways = Arc::make_mut(&mut snapshot.gateways);
        gateways.clear();
        let gateway = Gateway {
            class: "postern".into(),
            listeners: Vec::new(),
            parameters: None,
        };
        gateways.insert(Key::new("n", "web"), object("n", "web", gateway));
        let absent = |snapshot: &Snapshot, problem: Option<Problem>| {
            let found = told(snapshot, |_| Standing::Absent(problem.clone()));
            let mut found = found.into_iter();
            let told = found.next().map(|(_, reason, message)| (reason, message));
            assert_eq!(found.next(), None);
            told
        };
        let (reason, message) = absent(&snapshot, None).expect("told");
        assert_eq!(&*reason, "NotGranted");
        assert!(message.ends_with("  instanceTemplate: {}\n"), "{message}");

        let mut grant = TenantGrantSpec::default();
        grant.namespaces.names = vec!["n".into()];
        grant.exposures = vec![ExposureType::ClusterIP];
        let put = |snapshot: &mut Snapshot, grant: &TenantGrantSpec| {
            let grants = Arc::make_mut(&mut snapshot.tenant_grants);
            grants.insert(Key::new("", "g"), object("", "g", grant.clone()));
        };
        put(&mut snapshot, &grant);
        let (reason, message) = absent(&snapshot, None).expect("told");
        assert_eq!(&*reason, "InvalidParameters");
        assert!(message.contains("no TenantGrant on it (g) has a spec.instanceTemplate"));

        grant.instance_template = Some(InstanceTemplate::default());
        put(&mut snapshot, &grant);
        assert_eq!(absent(&snapshot, None), None, "it is on its way");
        let refused = Problem::WriteRefused {
            what: "GatewayInstance n/default".into(),
            answer: "exceeded quota".into(),
        };
        let (reason, message) = absent(&snapshot, Some(refused)).expect("told");
        assert_eq!(&*reason, "WriteRefused");
        assert!(message.contains("TenantGrant g: the API server refused"));
        assert!(message.contains("exceeded quota"), "{message}");
    }
}
