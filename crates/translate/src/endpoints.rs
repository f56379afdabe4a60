//! Clusters and their endpoints, from Services and EndpointSlices.
//!
//! Tenants may write EndpointSlices by hand: an address that could lead back into the pod or to a
//! node's metadata service is never sent (CVE-2021-25740).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use postern_model::{Cluster, Endpoint, Endpoints, Health, Origin};
use postern_refs::objects::EndpointSlice;
use postern_refs::{Key, Snapshot};

use crate::Settings;
use crate::backends::{BackendPort, upstream};
use crate::index::Index;

/// Which slices belong to which Service.
#[derive(Debug, Default)]
pub(crate) struct SliceIndex {
    of_service: Index,
    service_of: BTreeMap<Key, Key>,
}

impl SliceIndex {
    /// Takes in one slice as it is now; returns the Services that it concerns.
    pub(crate) fn update(&mut self, slice: &Key, now: Option<&EndpointSlice>) -> Vec<Key> {
        let mut concerned = Vec::new();
        if let Some(service) = self.service_of.remove(slice) {
            self.of_service.remove(&service, slice);
            concerned.push(service);
        }
        if let Some(now) = now
            && !now.service.is_empty()
        {
            let service = slice.sibling(slice.namespace.clone(), now.service.clone());
            self.of_service.insert(&service, slice);
            self.service_of.insert(slice.clone(), service.clone());
            concerned.push(service);
        }
        concerned
    }

    fn slices<'a>(
        &'a self,
        service: &Key,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = &'a EndpointSlice> {
        self.of_service
            .get(service)
            .iter()
            .filter_map(|key| snapshot.endpoint_slices.get(key)?.valid())
    }
}

/// The cluster and endpoints of a Service's port as they are now; `None` if the Service has no such
/// port (any more).
pub(crate) fn cluster(
    port: &BackendPort,
    snapshot: &Snapshot,
    slices: &SliceIndex,
    settings: &Settings,
) -> Option<(Arc<Cluster>, Arc<Endpoints>)> {
    let service = snapshot.services.get(&port.service)?.valid()?;
    let found = service
        .ports
        .iter()
        .find(|candidate| candidate.port == port.port)?;
    let id = port.cluster();
    let cluster = Cluster {
        id: id.clone(),
        upstream: upstream(found).ok()?,
        origin: Origin {
            kind: "Service".into(),
            namespace: port.service.namespace.clone(),
            name: port.service.name.clone(),
            field: format!("spec.ports[port={}]", port.port).into(),
        },
    };
    let mut best: BTreeMap<(IpAddr, u16), Health> = BTreeMap::new();
    for slice in slices.slices(&port.service, snapshot) {
        for target in slice
            .ports
            .iter()
            .filter(|target| target.name == found.name && &*target.protocol == "TCP")
        {
            for endpoint in &slice.endpoints {
                let health = match (endpoint.ready, endpoint.serving) {
                    (true, _) => Health::Ready,
                    (false, true) if endpoint.terminating => Health::Draining,
                    (false, _) => continue,
                };
                for address in endpoint
                    .addresses
                    .iter()
                    .filter(|address| settings.admits(**address))
                {
                    best.entry((*address, target.port))
                        .and_modify(|known| *known = (*known).min(health))
                        .or_insert(health);
                }
            }
        }
    }
    let endpoints = best
        .into_iter()
        .map(|((address, port), health)| Endpoint {
            address,
            port,
            health,
        })
        .collect();
    Some((
        Arc::new(cluster),
        Arc::new(Endpoints {
            cluster: id,
            endpoints,
        }),
    ))
}

/// The addresses of a Service's ready endpoints, whatever their ports.
pub(crate) fn ready(service: &Key, snapshot: &Snapshot, slices: &SliceIndex) -> BTreeSet<IpAddr> {
    slices
        .slices(service, snapshot)
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.ready)
        .flat_map(|endpoint| &endpoint.addresses)
        .map(IpAddr::to_canonical)
        .collect()
}

impl Settings {
    /// Whether requests may be sent to this address.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V6(six) => six.to_ipv4_mapped().map_or(IpAddr::V6(six), IpAddr::V4),
            four @ IpAddr::V4(_) => four,
        };
        if address.is_loopback() {
            return self.allow_loopback;
        }
        let local = match address {
            IpAddr::V4(four) => {
                four.is_link_local()
                    || four.is_broadcast()
                    || four.octets()[0] == 0
                    || four.octets()[0] == 127
                    || four == Ipv4Addr::UNSPECIFIED
            }
            IpAddr::V6(six) => six.is_unicast_link_local(),
        };
        !(address.is_unspecified() || address.is_multicast() || local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_home_or_to_the_node_are_refused() {
        let cluster = Settings {
            allow_loopback: false,
        };
        for bad in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!cluster.admits(bad.parse().unwrap()), "{bad}");
        }
        for good in ["10.244.0.3", "192.168.1.1", "fd00::3", "8.8.8.8"] {
            assert!(cluster.admits(good.parse().unwrap()), "{good}");
        }
        let local = Settings {
            allow_loopback: true,
        };
        assert!(local.admits("127.0.0.1".parse().unwrap()));
        assert!(!local.admits("169.254.169.254".parse().unwrap()));
    }
}
