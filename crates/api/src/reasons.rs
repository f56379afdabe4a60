//! Condition types and reasons: the words of the Gateway API (v1.6), and ours.
//!
//! A test holds each word once; the reference lists them with what to do about each.

use std::fmt;

macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[doc = $doc:literal])+ $word:ident,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[doc = $doc])+ $word,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$word,)+];

            /// The word as conditions write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$word => stringify!($word),)+
                }
            }

            /// The word that conditions write so, if it is one of these.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }

            /// What it means.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $($name::$word => concat!($($doc, "\n"),+),)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl From<$name> for std::sync::Arc<str> {
            fn from(word: $name) -> Self {
                word.as_str().into()
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_owned()
            }
        }
    };
}

words! {
    /// `metav1.Condition.type`.
    ConditionType {
        /// The object is valid and ours to serve. Class, Gateway, listener, route, policy and
        /// GatewayInstance have it.
        Accepted,
        /// All that the object names exists and may be named by it. Listeners and routes have it.
        ResolvedRefs,
        /// The configuration was acknowledged by an Envoy that is a ready endpoint of the
        /// Gateway's Service. Gateways and listeners have it.
        Programmed,
        /// The listener clashes with another one of its Gateway.
        Conflicted,
        /// A part of the route is not served. Only there when it is true.
        PartiallyInvalid,
        /// The Gateway API's CRDs are of a version that we know. GatewayClasses have it.
        SupportedVersion,
        /// Clients reach the Gateway by all that it claims at a router. Gateways behind the
        /// OpenShift Router have it.
        Exposed,
        /// The instance's pods are up and its Gateways have addresses. GatewayInstances have it.
        Ready,
    }
}

words! {
    /// `metav1.Condition.reason`.
    Reason {
        // Of the Gateway API: class.

        /// `Accepted`: yes.
        Accepted,
        /// `Accepted`: what `parametersRef` names is absent or wrong.
        InvalidParameters,
        /// `SupportedVersion`: yes.
        SupportedVersion,
        /// `SupportedVersion`: no.
        UnsupportedVersion,

        // Of the Gateway API: Gateway and listener.

        /// `Programmed`: yes.
        Programmed,
        /// The object is wrong; the message names the field.
        Invalid,
        /// `Accepted` of a Gateway: a listener is not valid.
        ListenersNotValid,
        /// Not decided yet, or not done yet. What served before goes on.
        Pending,
        /// `Programmed` of a Gateway: it has no address yet.
        AddressNotAssigned,
        /// `Programmed` of a Gateway: the address asked for cannot be had.
        AddressNotUsable,
        /// `Accepted` of a Gateway: it asks for a kind of address that we do not give.
        UnsupportedAddress,
        /// `Programmed` of a Gateway: no Envoy is ready.
        NoResources,
        /// `Accepted` of a listener: the port is in use.
        PortUnavailable,
        /// `Accepted` of a listener, `ResolvedRefs` of a route: a protocol that we do not serve.
        UnsupportedProtocol,
        /// `Conflicted`: another listener has this hostname.
        HostnameConflict,
        /// `Conflicted`: another listener has this port with another protocol.
        ProtocolConflict,
        /// `Conflicted`: no.
        NoConflicts,
        /// `ResolvedRefs`: yes.
        ResolvedRefs,
        /// `ResolvedRefs`: the Secret is absent, or holds no certificate that can be used.
        InvalidCertificateRef,
        /// `ResolvedRefs`: the listener allows a kind of route that it cannot carry.
        InvalidRouteKinds,
        /// `ResolvedRefs`: the target is in another namespace, and no ReferenceGrant there permits
        /// it.
        RefNotPermitted,

        // Of the Gateway API: route.

        /// `Accepted`: the listeners do not let routes of this namespace or kind attach.
        NotAllowedByListeners,
        /// `Accepted`: no hostname of the route is one of the listener.
        NoMatchingListenerHostname,
        /// `Accepted`: the Gateway has no such listener.
        NoMatchingParent,
        /// `Accepted`, `PartiallyInvalid`: a field or value that is not built; the message names
        /// it.
        UnsupportedValue,
        /// `Accepted`: two filters that cannot be used together.
        IncompatibleFilters,
        /// `ResolvedRefs`: a kind of backend that we do not know.
        InvalidKind,
        /// `ResolvedRefs`: the backend is absent.
        BackendNotFound,

        // Ours.

        /// `Accepted`: no TenantGrant makes this namespace a tenant. The message holds the YAML
        /// that an admin would apply.
        NotGranted,
        /// `Accepted`: the TenantGrants do not allow this exposure type.
        ExposureNotGranted,
        /// `Accepted`: the TenantGrants do not give this hostname to the namespace.
        HostnameNotGranted,
        /// `Accepted`: the TenantGrants do not allow this address pool.
        AddressPoolNotGranted,
        /// `Accepted`: a quota of the TenantGrants is used up.
        QuotaExceeded,
        /// `Accepted`: the cluster does not serve an API that this exposure needs. `Ready`: it does not
        /// serve the Gateway API.
        NotServed,
        /// `Exposed`: yes.
        Exposed,
        /// `Exposed`: a router refused a Route; the message holds its reason.
        RouteNotAdmitted,
        /// `Exposed`: no listener of the Gateway can be reached in this way.
        NoMatchingListener,
        /// `Ready`: yes.
        Ready,
        /// `Ready`: pods are not up yet; the message says which.
        Progressing,
        /// `Ready`: an object of a name that we need exists and is not ours. It was left alone.
        NameInUse,
        /// `Ready`: the API server refused a write, for example by a quota or an admission policy;
        /// the message holds its answer.
        WriteRefused,
        /// `Ready`: no container port is left for a listener.
        NoPortLeft,
        /// `ResolvedRefs`: pods of the backend refuse us by a policy of their namespace. The
        /// message holds the policy that their owner would apply.
        BackendNotReachable,
        /// `Accepted`: another object of this kind, older than this one, has the claim.
        OlderClaim,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_are_such_as_the_api_server_takes() {
        let words: Vec<&str> = ConditionType::ALL
            .iter()
            .map(|word| word.as_str())
            .chain(Reason::ALL.iter().map(|word| word.as_str()))
            .collect();
        for word in words {
            // `metav1.Condition.reason`: ^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$
            assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
            assert!(
                word.bytes().all(|b| b.is_ascii_alphanumeric()) && word.len() <= 64,
                "{word}"
            );
        }
    }

    #[test]
    fn each_word_stands_once() {
        let reasons: BTreeSet<_> = Reason::ALL.iter().map(|word| word.as_str()).collect();
        assert_eq!(reasons.len(), Reason::ALL.len());
        let types: BTreeSet<_> = ConditionType::ALL
            .iter()
            .map(|word| word.as_str())
            .collect();
        assert_eq!(types.len(), ConditionType::ALL.len());
    }
}
