//! The kinds that are stamped. Entitlements are kept apart: see [`crate::entitlement`].

use kube::api::ApiResource;
use kube::core::GroupVersionKind;

/// A kind that is stamped. All of them live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stamped {
    /// `networking.k8s.io/v1 NetworkPolicy`.
    NetworkPolicy,
    /// `v1 ServiceAccount`.
    ServiceAccount,
    /// `rbac.authorization.k8s.io/v1 Role`.
    Role,
    /// `rbac.authorization.k8s.io/v1 RoleBinding`.
    RoleBinding,
    /// `v1 Service`.
    Service,
    /// `policy/v1 PodDisruptionBudget`.
    PodDisruptionBudget,
    /// `apps/v1 Deployment`.
    Deployment,
    /// `gateway.networking.k8s.io/v1 Gateway`, where the instance has listeners.
    Gateway,
    /// `route.openshift.io/v1 Route`, for instances behind OpenShift's router.
    Route,
}

impl Stamped {
    /// All of them.
    pub const ALL: [Stamped; 9] = [
        Stamped::NetworkPolicy,
        Stamped::ServiceAccount,
        Stamped::Role,
        Stamped::RoleBinding,
        Stamped::Service,
        Stamped::PodDisruptionBudget,
        Stamped::Deployment,
        Stamped::Gateway,
        Stamped::Route,
    ];

    /// Group, version, kind and plural.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Stamped::NetworkPolicy => (
                "networking.k8s.io",
                "v1",
                "NetworkPolicy",
                "networkpolicies",
            ),
            Stamped::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Stamped::Role => ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
            Stamped::RoleBinding => (
                "rbac.authorization.k8s.io",
                "v1",
                "RoleBinding",
                "rolebindings",
            ),
            Stamped::Service => ("", "v1", "Service", "services"),
            Stamped::PodDisruptionBudget => (
                "policy",
                "v1",
                "PodDisruptionBudget",
                "poddisruptionbudgets",
            ),
            Stamped::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Stamped::Gateway => (postern_api::GATEWAY_GROUP, "v1", "Gateway", "gateways"),
            Stamped::Route => ("route.openshift.io", "v1", "Route", "routes"),
        }
    }

    /// Whether a cluster may do without it.
    #[must_use]
    pub fn is_optional(self) -> bool {
        matches!(self, Stamped::Gateway | Stamped::Route)
    }

    /// The kind as manifests write it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        self.names().2
    }

    /// The kind of an `apiVersion` and a `kind`.
    #[must_use]
    pub fn find(api_version: &str, kind: &str) -> Option<Stamped> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        Stamped::ALL.into_iter().find(|stamped| {
            let (own_group, _, own_kind, _) = stamped.names();
            own_group == group && own_kind == kind
        })
    }

    /// Where the API server keeps it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }
}
