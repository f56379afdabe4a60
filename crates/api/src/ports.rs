//! Container ports: a stable function of Gateway, listener port and exposure.
//!
//! Envoy runs without privileges, so a listener's port (443) becomes a port of the pod above
//! 10239. Services lead there, and policies allow just that. A changed port would cut traffic
//! until every Envoy and every Service agree again; so a hash picks the port, an allocation that
//! was made is kept, and one that was lost comes out the same but for collisions.
//!
//! The old allocations are read back from the Entitlement and from nowhere else: all other places
//! a tenant can write to.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use crate::entitlement::{EntitlementStatus, Exposed};

/// Ports that listeners get: above those of the system and below those that Linux gives to
/// outgoing connections (`ip_local_port_range`).
pub const RANGE: RangeInclusive<u16> = 10240..=32767;

/// Ports of our own programs: xDS, readiness, metrics. No listener gets one.
pub const RESERVED: RangeInclusive<u16> = 15000..=15099;

/// Where the control plane serves xDS.
pub const XDS: u16 = 15010;
/// Where the control plane answers probes.
pub const CONTROL_PLANE_PROBES: u16 = 15020;
/// Where the control plane serves metrics.
pub const CONTROL_PLANE_METRICS: u16 = 15021;
/// Where the supervisor of Envoy answers readiness probes.
pub const PROXY_PROBES: u16 = 15030;
/// Where the supervisor of Envoy serves metrics.
pub const PROXY_METRICS: u16 = 15031;

/// How many ports there are to give.
pub const CAPACITY: u16 =
    (*RANGE.end() - *RANGE.start() + 1) - (*RESERVED.end() - *RESERVED.start() + 1);

/// What gets a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// The Gateway's namespace.
    pub namespace: String,
    /// The Gateway's name.
    pub gateway: String,
    /// The port of its listeners.
    pub port: u16,
    /// The exposure that leads here.
    pub exposure: Exposed,
}

/// Which ports were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// The container port of each key. No two are equal.
    pub ports: BTreeMap<PortKey, u16>,
    /// Keys that got none, because all [`CAPACITY`] ports are given.
    pub without: BTreeSet<PortKey>,
}

/// The allocations that stand in an Entitlement.
#[must_use]
pub fn recorded(status: &EntitlementStatus) -> BTreeMap<PortKey, u16> {
    let mut ports = BTreeMap::new();
    for gateway in &status.gateways {
        for port in &gateway.ports {
            let key = PortKey {
                namespace: gateway.namespace.clone(),
                gateway: gateway.name.clone(),
                port: port.port,
                exposure: port.exposure,
            };
            ports.insert(key, port.container_port);
        }
    }
    ports
}

/// Gives each key of `wanted` a port.
///
/// A port of `old` is kept if it is one to give and no key before claimed it. Other keys get the
/// port of their hash or, if that is taken, the next free one, in the order of the keys: the
/// result depends on the two sets alone.
#[must_use]
pub fn allocate(old: &BTreeMap<PortKey, u16>, wanted: &BTreeSet<PortKey>) -> Allocated {
    let mut taken = BTreeSet::new();
    let mut allocated = Allocated::default();
    for key in wanted {
        if let Some(&port) = old.get(key)
            && is_ours_to_give(port)
            && taken.insert(port)
        {
            allocated.ports.insert(key.clone(), port);
        }
    }
    for key in wanted {
        if allocated.ports.contains_key(key) {
            continue;
        }
        let first = hashed_slot(key);
        let free = (0..CAPACITY)
            .map(|step| port_of_slot((u32::from(first) + u32::from(step)) % u32::from(CAPACITY)))
            .find(|port| taken.insert(*port));
        if let Some(port) = free {
            allocated.ports.insert(key.clone(), port);
        } else {
            allocated.without.insert(key.clone());
        }
    }
    allocated
}

fn is_ours_to_give(port: u16) -> bool {
    RANGE.contains(&port) && !RESERVED.contains(&port)
}

fn hashed_slot(key: &PortKey) -> u16 {
    let mut sha = Sha256::new();
    for text in [&key.namespace, &key.gateway] {
        sha.update((text.len() as u64).to_be_bytes());
        sha.update(text);
    }
    sha.update(key.port.to_be_bytes());
    // Not the variant's number: variants may be added in any order.
    sha.update(match key.exposure {
        Exposed::Direct => b"direct".as_slice(),
        Exposed::Router => b"router",
        Exposed::RouterPassthrough => b"router-passthrough",
        Exposed::RouterReencrypt => b"router-reencrypt",
    });
    let digest = sha.finalize();
    let number = digest
        .iter()
        .take(8)
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    u16::try_from(number % u64::from(CAPACITY)).unwrap_or_default()
}

fn port_of_slot(slot: u32) -> u16 {
    let below = u32::from(*RESERVED.start() - *RANGE.start());
    let gap = if slot < below {
        0
    } else {
        u32::from(*RESERVED.end() - *RESERVED.start() + 1)
    };
    u16::try_from(u32::from(*RANGE.start()) + slot + gap).unwrap_or(*RANGE.end())
}

#[cfg(test)]
mod tests;
