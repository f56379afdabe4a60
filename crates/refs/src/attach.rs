//! Attachment: which listeners of a Gateway a route's `parentRef` means, and whether they take it.
//!
//! Source: Gateway API, `ParentReference`, `AllowedRoutes`, `Listener.hostname`, `HTTPRouteSpec.hostnames`.

use postern_model::Host;

use crate::objects::{HttpRoute, Listener, Object, ParentRef, Protocol, RouteKind};
use crate::{Key, Name};

/// Why a `parentRef` attaches to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detached {
    /// No listener has this section name or port.
    NoMatchingParent,
    /// There are some, but none takes routes of this kind from this namespace.
    NotAllowedByListeners,
    /// Some would, but none shares a hostname with the route.
    NoMatchingListenerHostname,
}

/// Whether a `parentRef` means a Gateway, and which: its namespace and name.
#[must_use]
pub fn gateway_of<'a>(parent: &'a ParentRef, own: &'a Name) -> Option<(&'a Name, &'a Name)> {
    (&*parent.group == postern_api::GATEWAY_GROUP && &*parent.kind == "Gateway")
        .then(|| (parent.namespace.as_ref().unwrap_or(own), &parent.name))
}

/// Whether a route names a Gateway of which this holds, whether or not that takes it. One that does
/// not decode names nothing.
#[must_use]
pub fn names_gateway(route: &Object<HttpRoute>, is_one: impl Fn(&Key) -> bool) -> bool {
    let own = &route.meta.key;
    route.valid().is_some_and(|spec| {
        let mut gateways = spec
            .parents
            .iter()
            .filter_map(|parent| gateway_of(parent, &own.namespace));
        gateways.any(|(namespace, name)| is_one(&own.sibling(namespace.clone(), name.clone())))
    })
}

/// Whether a `parentRef` means this listener.
#[must_use]
pub fn names_listener(parent: &ParentRef, listener: &Listener) -> bool {
    parent
        .section
        .as_ref()
        .is_none_or(|section| *section == listener.name)
        && parent.port.is_none_or(|port| port == listener.port)
}

/// Whether a listener takes routes of this kind: its protocol can carry them, and its
/// `allowedRoutes.kinds` do not leave them out.
#[must_use]
pub fn takes_kind(listener: &Listener, kind: &str) -> bool {
    supported_kinds(listener)
        .iter()
        .any(|supported| &*supported.kind == kind)
}

/// The kinds of route that a listener takes, as `ListenerStatus.supportedKinds` says them.
#[must_use]
pub fn supported_kinds(listener: &Listener) -> Vec<RouteKind> {
    let carried: &[&str] = match listener.protocol {
        Protocol::Http | Protocol::Https => &["HTTPRoute"],
        Protocol::Tls | Protocol::Tcp | Protocol::Udp | Protocol::Other(_) => &[],
    };
    let asked = &listener.allowed_routes.kinds;
    carried
        .iter()
        .filter(|kind| {
            asked.is_empty()
                || asked
                    .iter()
                    .any(|ask| &*ask.group == postern_api::GATEWAY_GROUP && &*ask.kind == **kind)
        })
        .map(|kind| RouteKind {
            group: postern_api::GATEWAY_GROUP.into(),
            kind: (*kind).into(),
        })
        .collect()
}

/// The hosts that a route serves on a listener: the intersections of its hostnames with the
/// listener's, sorted, without doubles. None means that they have nothing in common.
#[must_use]
pub fn shared_hosts(listener: &Host, route: &[Host]) -> Vec<Host> {
    if route.is_empty() {
        return vec![listener.clone()];
    }
    let mut hosts: Vec<Host> = route
        .iter()
        .filter_map(|host| host.intersect(listener))
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Of several listeners on one port, the one that a request for this host belongs to: the most
/// specific that covers it (Gateway API, listener isolation). Returns its index.
#[must_use]
pub fn owner(host: &Host, listeners: &[Host]) -> Option<usize> {
    (0..listeners.len())
        .filter(|index| listeners[*index].covers(host))
        .min_by(|left, right| listeners[*left].cmp(&listeners[*right]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::AllowedRoutes;

    fn listener(name: &str, port: u16, protocol: Protocol) -> Listener {
        Listener {
            name: name.into(),
            hostname: None,
            port,
            protocol,
            tls: None,
            allowed_routes: AllowedRoutes::default(),
        }
    }

    fn parent(section: Option<&str>, port: Option<u16>) -> ParentRef {
        ParentRef {
            group: postern_api::GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: None,
            name: "g".into(),
            section: section.map(Into::into),
            port,
        }
    }

    #[test]
    fn a_parent_reference_means_the_listeners_that_meet_name_and_port() {
        let web = listener("web", 80, Protocol::Http);
        assert!(names_listener(&parent(None, None), &web));
        assert!(names_listener(&parent(Some("web"), Some(80)), &web));
        assert!(!names_listener(&parent(Some("web"), Some(81)), &web));
        assert!(!names_listener(&parent(Some("other"), None), &web));
    }

    #[test]
    fn a_listener_takes_only_the_kinds_it_carries_and_allows() {
        let mut web = listener("web", 80, Protocol::Http);
        assert!(takes_kind(&web, "HTTPRoute"));
        assert!(!takes_kind(&web, "TCPRoute"));
        web.allowed_routes.kinds = vec![RouteKind {
            group: "other.example".into(),
            kind: "HTTPRoute".into(),
        }];
        assert!(!takes_kind(&web, "HTTPRoute"));
        assert!(!takes_kind(
            &listener("x", 80, Protocol::Other("QUIC".into())),
            "HTTPRoute"
        ));
    }

    #[test]
    fn a_host_belongs_to_the_most_specific_listener() {
        let hosts = ["*", "*.example", "a.example"].map(Host::parse);
        assert_eq!(owner(&Host::parse("a.example"), &hosts), Some(2));
        assert_eq!(owner(&Host::parse("b.example"), &hosts), Some(1));
        assert_eq!(owner(&Host::parse("*.example"), &hosts), Some(1));
        assert_eq!(owner(&Host::parse("other"), &hosts), Some(0));
        assert_eq!(owner(&Host::parse("other"), &hosts[1..]), None);
    }

    #[test]
    fn shared_hosts_are_the_narrower_ones() {
        let route = ["a.example", "other", "*.b.example"].map(Host::parse);
        let shared: Vec<String> = shared_hosts(&Host::parse("*.example"), &route)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shared, ["a.example", "*.b.example"]);
        assert_eq!(shared_hosts(&Host::parse("x"), &[]), [Host::parse("x")]);
    }
}
