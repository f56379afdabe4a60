//! What a platform may give to its tenants, by adding it to the stock roles: the one place, from which
//! `config/tenants/` is made. An admin applies one of the sets; the bundle holds none, since OLM adds our
//! kinds itself and OpenShift the Gateway API's.
//!
//! The sets give kinds that people write, nothing of Kubernetes' own (no Secrets beyond what the stock
//! roles have), no status of anything, and of Entitlements the read.

use k8s_openapi::api::rbac::v1::PolicyRule;
use postern_api::{GATEWAY_GROUP, GROUP};

use crate::rights::{READ, rule};

/// Who writes Gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// The platform, as on OpenShift: tenants read Gateways, and a GatewayInstance carries its
    /// listeners.
    OpenShift,
    /// Tenants.
    Kubernetes,
}

impl Terms {
    /// All of them.
    pub const ALL: [Terms; 2] = [Terms::OpenShift, Terms::Kubernetes];

    /// The set's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Terms::OpenShift => "openshift",
            Terms::Kubernetes => "kubernetes",
        }
    }
}

/// A ClusterRole that is added to stock roles. Both sets have the same ones, so that one set takes the
/// place of the other.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantRole {
    /// Its name.
    pub name: &'static str,
    /// The stock roles that it is added to.
    pub added_to: &'static [&'static str],
    /// What it gives.
    pub rules: Vec<PolicyRule>,
}

/// The Gateway API's kinds that tenants write everywhere: what OpenShift adds to its stock roles.
const ROUTES: &[&str] = &[
    "backendtlspolicies",
    "grpcroutes",
    "httproutes",
    "listenersets",
    "referencegrants",
    "tlsroutes",
];

const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

/// The roles of a set.
#[must_use]
pub fn roles(terms: Terms) -> Vec<TenantRole> {
    let read = || {
        let gateways = [&["gateways"], ROUTES].concat();
        vec![
            rule(GROUP, &["entitlements", "gatewayinstances"], READ),
            rule(GATEWAY_GROUP, &gateways, READ),
        ]
    };
    let written = match terms {
        Terms::OpenShift => ROUTES.to_vec(),
        Terms::Kubernetes => [&["gateways"], ROUTES].concat(),
    };
    let mut edit = read();
    edit.push(rule(GROUP, &["gatewayinstances"], WRITE));
    edit.push(rule(GATEWAY_GROUP, &written, WRITE));
    vec![
        TenantRole {
            name: "postern-edit",
            added_to: &["admin", "edit"],
            rules: edit,
        },
        TenantRole {
            name: "postern-view",
            added_to: &["view"],
            rules: read(),
        },
    ]
}
