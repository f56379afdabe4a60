//! Statuses of Gateways of ours that have no control plane to write them: those that name no
//! instance, one that is not there, or one that gets nothing.
//!
//! Each status has one writer. As soon as the instance's control plane is there, the Gateway
//! drops out of what this gives.

use std::collections::BTreeSet;
use std::sync::Arc;

use postern_api::DEFAULT_INSTANCE;
use postern_api::reasons::{ConditionType, Reason};
use postern_consent::{Ownership, owner};
use postern_refs::objects::Gateway;
use postern_refs::status::{Condition, GatewayStatus, Status, Statuses, Truth};
use postern_refs::{Key, Kind, Name, Object, Snapshot};

/// How it stands with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its control plane is there, or will be soon: nothing is to be written.
    Served,
    /// It gets nothing.
    Refused(Reason),
    /// There is none of this key, nor anything of it.
    Absent,
}

/// The statuses to be written.
#[must_use]
pub fn statuses(snapshot: &Snapshot, standing: impl Fn(&Key) -> Standing) -> Statuses {
    let none = BTreeSet::new();
    let mut statuses = Statuses::new();
    for (key, gateway) in snapshot.gateways.iter() {
        let (reason, message) = match owner(snapshot, &none, gateway) {
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
                Standing::Absent => (Reason::InvalidParameters, absent(gateway, &instance.name)),
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

fn absent(gateway: &Object<Gateway>, name: &Name) -> String {
    match gateway
        .valid()
        .is_some_and(|gateway| gateway.parameters.is_some())
    {
        true => format!(
            "spec.infrastructure.parametersRef: there is no GatewayInstance {name} in this \
             namespace; create it or name another"
        ),
        false => format!(
            "there is no GatewayInstance {DEFAULT_INSTANCE} in this namespace; create it, or name \
             another in spec.infrastructure.parametersRef"
        ),
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
    use postern_api::CONTROLLER_NAME;
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

    #[test]
    fn each_gateway_without_a_control_plane_gets_a_status_and_no_other() {
        let statuses = statuses(&snapshot(), |instance| match &*instance.name {
            "served" => Standing::Served,
            "refused" => Standing::Refused(Reason::NotGranted),
            _ => Standing::Absent,
        });
        let told: Vec<(&str, &str)> = statuses
            .iter()
            .map(|((_, key), status)| {
                let Status::Gateway(status) = &**status else {
                    panic!("a Gateway's status");
                };
                assert!(status.conditions.iter().all(|c| c.observed_generation == 4));
                assert!(status.conditions.iter().all(|c| c.status == Truth::False));
                (&*key.name, &*status.conditions[0].reason)
            })
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
}
