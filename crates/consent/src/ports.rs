//! Container ports of the instance's Gateways.

use std::collections::BTreeSet;

use postern_api::entitlement::{EntitlementStatus, Exposed, PortAllocation, PortTrust};
use postern_api::ports::{self, Allocated, PortKey};
use postern_refs::Key;
use postern_refs::objects::{Gateway, Protocol};

/// The ports of the listeners that can be served: an unbuilt protocol gets none, so that no
/// Service leads nowhere.
pub(crate) fn served(gateway: &Gateway) -> impl Iterator<Item = u16> {
    gateway
        .listeners
        .iter()
        .filter(|listener| matches!(listener.protocol, Protocol::Http | Protocol::Https))
        .map(|listener| listener.port)
}

/// Gives every port that is wanted of the Gateways a port. One Envoy serves them all, so no two
/// are equal.
pub(crate) fn allocate(
    wanted: &BTreeSet<PortKey>,
    previous: Option<&EntitlementStatus>,
) -> Allocated {
    let old = previous.map(ports::recorded).unwrap_or_default();
    ports::allocate(&old, wanted)
}

pub(crate) fn key(gateway: &Key, port: u16, exposure: Exposed) -> PortKey {
    PortKey {
        namespace: gateway.namespace.to_string(),
        gateway: gateway.name.to_string(),
        port,
        exposure,
    }
}

/// The allocations of one Gateway, by port.
pub(crate) fn of_gateway(allocated: &Allocated, gateway: &Key) -> Vec<PortAllocation> {
    allocated
        .ports
        .range(key(gateway, 0, Exposed::Direct)..)
        .take_while(|(key, _)| key.namespace == *gateway.namespace && key.gateway == *gateway.name)
        .map(|(key, container_port)| PortAllocation {
            port: key.port,
            exposure: key.exposure,
            container_port: *container_port,
            trust: match key.exposure {
                // Clients connect themselves: whatever they say about themselves proves nothing.
                Exposed::Direct => PortTrust::Nothing,
                // Policies admit the router alone, and Routes have it replace what clients say.
                Exposed::Router | Exposed::RouterReencrypt => PortTrust::ForwardedHeaders,
                // The router sends the client's bytes, and no PROXY header.
                Exposed::RouterPassthrough => PortTrust::Unknown,
            },
        })
        .collect()
}
