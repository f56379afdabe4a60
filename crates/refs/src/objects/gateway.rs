//! GatewayClass and Gateway.

use std::collections::BTreeMap;

use super::ObjectRef;
use crate::Name;

/// `gateway.networking.k8s.io GatewayClass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClass {
    /// `spec.controllerName`.
    pub controller: Name,
    /// `spec.parametersRef`, if it has one.
    pub parameters: Option<ObjectRef>,
}

/// `Listener.protocol`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `HTTP`.
    Http,
    /// `HTTPS`.
    Https,
    /// `TLS`.
    Tls,
    /// `TCP`.
    Tcp,
    /// `UDP`.
    Udp,
    /// One that we do not know.
    Other(Name),
}

/// `ListenerTLSConfig.mode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// `Terminate`.
    Terminate,
    /// `Passthrough`.
    Passthrough,
    /// One that we do not know.
    Other(Name),
}

/// `ListenerTLSConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The mode; `Terminate` by default.
    pub mode: TlsMode,
    /// The certificates.
    pub certificates: Vec<ObjectRef>,
}

/// The operator of a label selector's requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorOperator {
    /// `In`.
    In,
    /// `NotIn`.
    NotIn,
    /// `Exists`.
    Exists,
    /// `DoesNotExist`.
    DoesNotExist,
    /// One that we do not know: it matches nothing.
    Other(Name),
}

/// A label selector's requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorRequirement {
    /// The label.
    pub key: Name,
    /// How it is compared.
    pub operator: SelectorOperator,
    /// With what.
    pub values: Vec<Name>,
}

/// `metav1.LabelSelector`. An empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must be equal.
    pub labels: BTreeMap<Name, Name>,
    /// Further requirements.
    pub requirements: Vec<SelectorRequirement>,
}

impl Selector {
    /// Whether these labels meet all its requirements.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<Name, Name>) -> bool {
        self.labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self.requirements.iter().all(|requirement| {
                let value = labels.get(&requirement.key);
                match requirement.operator {
                    SelectorOperator::In => value.is_some_and(|v| requirement.values.contains(v)),
                    SelectorOperator::NotIn => {
                        !value.is_some_and(|v| requirement.values.contains(v))
                    }
                    SelectorOperator::Exists => value.is_some(),
                    SelectorOperator::DoesNotExist => value.is_none(),
                    SelectorOperator::Other(_) => false,
                }
            })
    }
}

/// `RouteNamespaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespacesFrom {
    /// `Same`, the default.
    #[default]
    Same,
    /// `All`.
    All,
    /// `Selector`.
    Selector(Selector),
    /// `None`, or one that we do not know: nobody.
    Nobody(Name),
}

/// `RouteGroupKind`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKind {
    /// The group; `gateway.networking.k8s.io` by default.
    pub group: Name,
    /// The kind.
    pub kind: Name,
}

/// `AllowedRoutes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedRoutes {
    /// From which namespaces.
    pub namespaces: NamespacesFrom,
    /// Of which kinds; empty is every kind that the protocol can carry.
    pub kinds: Vec<RouteKind>,
}

/// One listener of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, unique in the Gateway.
    pub name: Name,
    /// The hostname; `None` is every host.
    pub hostname: Option<Name>,
    /// The port that clients use.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// TLS, for HTTPS and TLS.
    pub tls: Option<ListenerTls>,
    /// Which routes may attach.
    pub allowed_routes: AllowedRoutes,
}

/// `gateway.networking.k8s.io Gateway`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// `spec.gatewayClassName`.
    pub class: Name,
    /// The listeners in their order.
    pub listeners: Vec<Listener>,
    /// `spec.infrastructure.parametersRef`, which names the instance.
    pub parameters: Option<ObjectRef>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<Name, Name> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    #[test]
    fn a_selector_asks_for_all_of_its_requirements() {
        let selector = Selector {
            labels: labels(&[("team", "a")]),
            requirements: vec![SelectorRequirement {
                key: "stage".into(),
                operator: SelectorOperator::NotIn,
                values: vec!["test".into()],
            }],
        };
        assert!(selector.matches(&labels(&[("team", "a")])));
        assert!(selector.matches(&labels(&[("team", "a"), ("stage", "live")])));
        assert!(!selector.matches(&labels(&[("team", "a"), ("stage", "test")])));
        assert!(!selector.matches(&labels(&[("team", "b")])));
        assert!(Selector::default().matches(&labels(&[])));
    }

    #[test]
    fn an_unknown_operator_matches_nothing() {
        let selector = Selector {
            labels: BTreeMap::new(),
            requirements: vec![SelectorRequirement {
                key: "a".into(),
                operator: SelectorOperator::Other("Gt".into()),
                values: vec![],
            }],
        };
        assert!(!selector.matches(&labels(&[("a", "1")])));
    }
}
