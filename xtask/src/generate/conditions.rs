//! What to do about each reason of a condition.

use postern_api::reasons::Reason;

/// The next step, in general; the condition's message knows the object.
#[allow(
    clippy::too_many_lines,
    reason = "one line for each word; a table that the compiler keeps whole"
)]
pub(super) fn what_to_do(reason: Reason) -> &'static str {
    match reason {
        Reason::Accepted
        | Reason::SupportedVersion
        | Reason::Programmed
        | Reason::NoConflicts
        | Reason::ResolvedRefs
        | Reason::Exposed
        | Reason::Ready => "Nothing: all is well.",
        Reason::InvalidParameters => {
            "Name a GatewayInstance of the Gateway's own namespace, or take the reference away. Without one, \
             an admin may let an instance be made (`spec.instanceTemplate` of a TenantGrant)."
        }
        Reason::UnsupportedVersion => {
            "Nothing at once: what is known of the Gateway API goes on. Upgrade Postern, or the CRDs."
        }
        Reason::Invalid => "Correct the field that the message names.",
        Reason::ListenersNotValid => "Look at the conditions of the Gateway's listeners.",
        Reason::Pending => {
            "Wait; if it stays, look whether the instance is `Ready` and its control plane runs."
        }
        Reason::AddressNotAssigned => {
            "Wait for the load balancer or the router; if it stays, look at the events of the Gateway's \
             Service, or at its Routes."
        }
        Reason::AddressNotUsable => "Ask for another address, or for none.",
        Reason::UnsupportedAddress => {
            "Take `spec.addresses` off the Gateway; addresses are asked for in the GatewayInstance."
        }
        Reason::NoResources => {
            "Look at the instance's `Ready` condition and at its Envoy pods: `kubectl get pods`."
        }
        Reason::PortUnavailable => "Use another port.",
        Reason::UnsupportedProtocol => "Use HTTP or HTTPS, and HTTPRoutes.",
        Reason::HostnameConflict => "Give one of the two listeners another hostname or port.",
        Reason::ProtocolConflict => "Give one of the two listeners another port.",
        Reason::InvalidCertificateRef => {
            "Make the Secret, of type `kubernetes.io/tls`, in the Gateway's namespace, or correct its name."
        }
        Reason::InvalidRouteKinds => "Take the kind out of `allowedRoutes.kinds`.",
        Reason::RefNotPermitted => {
            "Name a target of the own namespace: references across namespaces are not built yet."
        }
        Reason::NotAllowedByListeners => {
            "Ask the Gateway's owner to let the namespace in (`allowedRoutes`), or attach elsewhere."
        }
        Reason::NoMatchingListenerHostname => {
            "Use hostnames that a listener covers, or add a listener that covers them."
        }
        Reason::NoMatchingParent => "Correct `sectionName` or `port` of the `parentRef`.",
        Reason::UnsupportedValue => {
            "Take the field or value away; what is not built is refused, never ignored."
        }
        Reason::IncompatibleFilters => "Take one of the two filters away.",
        Reason::InvalidKind => "Use a Service as the backend.",
        Reason::BackendNotFound => "Make the Service, or correct its name or port.",
        Reason::NotGranted => "An admin reviews the TenantGrant in the message and applies it.",
        Reason::ExposureNotGranted => {
            "Ask for an exposure that is granted, or an admin applies the TenantGrant in the message."
        }
        Reason::HostnameNotGranted => {
            "Use a hostname that is granted (`status.granted.hostnames`), or ask an admin for a TenantGrant."
        }
        Reason::AddressPoolNotGranted => {
            "Ask for a pool that is granted (`status.granted.addressPools`), or for none."
        }
        Reason::QuotaExceeded => {
            "Delete what is no longer used, or ask an admin for a greater quota. The newest are refused; \
             what serves goes on."
        }
        Reason::NotServed => "Ask for another exposure, or install what the message names.",
        Reason::RouteNotAdmitted => {
            "Read the router's reason in the message. `HostAlreadyClaimed`: another Route has the host. \
             `RouteNotAdmitted`: often a wildcard where the router's admin allows none."
        }
        Reason::NoMatchingListener => {
            "Add a listener of the protocol that the message names, or change the termination."
        }
        Reason::Progressing => "Wait; if it stays, look at the pods that the message names.",
        Reason::NameInUse => {
            "Delete or rename the object that the message names, if nobody needs it."
        }
        Reason::WriteRefused => {
            "Read the API server's answer in the message: often a quota of the namespace or an admission \
             policy."
        }
        Reason::NoPortLeft => "Use fewer listener ports.",
        Reason::BackendNotReachable => {
            "Ask the backend's owner to apply the policy in the message."
        }
        Reason::OlderClaim => "Use another name, or ask the owner of the older object.",
    }
}
