//! What is known about kinds before any server is asked.

use postern_refs::Kind;

/// The versions of a kind that the door can read, newest first.
#[must_use]
pub fn versions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::GatewayClass | Kind::Gateway | Kind::HttpRoute | Kind::ReferenceGrant => {
            &["v1", "v1beta1"]
        }
        Kind::Service | Kind::EndpointSlice | Kind::Secret | Kind::Namespace => &["v1"],
        Kind::GatewayInstance | Kind::TenantGrant => &["v1alpha1"],
    }
}

/// Whether objects of a kind stand in a namespace.
#[must_use]
pub fn is_namespaced(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::GatewayClass | Kind::Namespace | Kind::TenantGrant
    )
}

/// The plural, for kinds that every API server has, so that it need not be asked.
#[must_use]
pub(crate) fn built_in_plural(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Service => Some("services"),
        Kind::EndpointSlice => Some("endpointslices"),
        Kind::Secret => Some("secrets"),
        Kind::Namespace => Some("namespaces"),
        _ => None,
    }
}
