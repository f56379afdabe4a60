//! References across namespaces: what the Entitlement says about one.
//!
//! Whether a reference is permitted is decided before whether its target exists, so that nobody
//! learns from a condition what another namespace holds.

use std::collections::BTreeMap;

use postern_api::entitlement::{Decision, EntitlementStatus, ObjectRef};

/// What is known about a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may be followed.
    Permitted,
    /// It may not.
    Refused,
    /// The operator has not decided yet: what serves goes on.
    Pending,
}

/// The decisions of an Entitlement, to look up.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    decisions: BTreeMap<(ObjectRef, ObjectRef), Permission>,
}

impl Permissions {
    /// Indexes the decisions. A reference that stands in both lists is refused.
    #[must_use]
    pub fn of(entitlement: &EntitlementStatus) -> Permissions {
        let pair = |decision: &Decision| (decision.from.clone(), decision.to.clone());
        let permitted = entitlement
            .permitted
            .iter()
            .map(|d| (pair(d), Permission::Permitted));
        let refused = entitlement
            .refused
            .iter()
            .map(|d| (pair(d), Permission::Refused));
        Permissions {
            decisions: permitted.chain(refused).collect(),
        }
    }

    /// What is known about the reference from one object to another. Within a namespace every
    /// reference is permitted.
    #[must_use]
    pub fn check(&self, from: &ObjectRef, to: &ObjectRef) -> Permission {
        if from.namespace == to.namespace {
            return Permission::Permitted;
        }
        self.decisions
            .get(&(from.clone(), to.clone()))
            .copied()
            .unwrap_or(Permission::Pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, namespace: &str, name: &str) -> ObjectRef {
        ObjectRef {
            group: String::new(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn decision(from: &ObjectRef, to: &ObjectRef) -> Decision {
        Decision {
            from: from.clone(),
            to: to.clone(),
            ..Decision::default()
        }
    }

    #[test]
    fn what_stands_in_neither_list_is_pending_and_refusal_wins() {
        let route = object("HTTPRoute", "a", "r");
        let [own, one, two, three] = [("a", "s"), ("b", "1"), ("b", "2"), ("b", "3")]
            .map(|(namespace, name)| object("Service", namespace, name));
        let entitlement = EntitlementStatus {
            permitted: vec![decision(&route, &one), decision(&route, &two)],
            refused: vec![decision(&route, &two)],
            ..EntitlementStatus::default()
        };
        let permissions = Permissions::of(&entitlement);
        assert_eq!(permissions.check(&route, &own), Permission::Permitted);
        assert_eq!(permissions.check(&route, &one), Permission::Permitted);
        assert_eq!(permissions.check(&route, &two), Permission::Refused);
        assert_eq!(permissions.check(&route, &three), Permission::Pending);
        let other = object("HTTPRoute", "c", "r");
        assert_eq!(permissions.check(&other, &one), Permission::Pending);
    }
}
