//! What is looked up around us: the endpoints of the API servers, for policies, and addresses of
//! nodes, for node ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::watch;

use crate::problem::chain;
use crate::shared::Surroundings;

/// The most nodes whose addresses are told: any node answers on a node port.
const MOST_NODES: usize = 3;

/// Looks up both on tasks of their own, and goes on looking.
#[must_use]
pub fn start(client: &kube::Client) -> watch::Receiver<Surroundings> {
    let (sender, receiver) = watch::channel(Surroundings::default());
    tokio::spawn(api_servers(client.clone(), sender.clone()));
    tokio::spawn(nodes(client.clone(), sender));
    receiver
}

/// The slice `default/kubernetes`, which API servers keep themselves, by its name: no more of
/// them is ours to read.
async fn api_servers(client: kube::Client, sender: watch::Sender<Surroundings>) {
    let api: Api<EndpointSlice> = Api::namespaced(client, "default");
    let config = watcher::Config::default().fields("metadata.name=kubernetes");
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    loop {
        let event = tokio::select! {
            () = sender.closed() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Apply(slice) | Event::InitApply(slice))) => {
                let found = endpoints(&slice);
                // None at all is no news: policies keep the last that were known.
                if !found.is_empty() {
                    set(&sender, |around| &mut around.api_servers, found);
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(error = %chain(&error), "EndpointSlice default/kubernetes");
            }
            None => return,
        }
    }
}

fn endpoints(slice: &EndpointSlice) -> BTreeSet<SocketAddr> {
    let ports = slice.ports.iter().flatten().filter_map(|port| port.port);
    let ports: Vec<u16> = ports.filter_map(|port| u16::try_from(port).ok()).collect();
    let addresses = slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| &endpoint.addresses);
    addresses
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .flat_map(|address| {
            ports
                .iter()
                .map(move |port| SocketAddr::new(address, *port))
        })
        .collect()
}

/// Addresses of a few nodes. Without the right to read nodes none are known.
async fn nodes(client: kube::Client, sender: watch::Sender<Surroundings>) {
    let kind = GroupVersionKind::gvk("", "v1", "Node");
    let resource = ApiResource::from_gvk_with_plural(&kind, "nodes");
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let config = watcher::Config::default().page_size(50);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut known: BTreeMap<String, IpAddr> = BTreeMap::new();
    let mut listed: BTreeMap<String, IpAddr> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            () = sender.closed() => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Ok(Event::Init)) => {
                listed.clear();
                continue;
            }
            Some(Ok(Event::InitApply(node))) => {
                listed.extend(address(&node));
                continue;
            }
            Some(Ok(Event::InitDone)) => known = std::mem::take(&mut listed),
            Some(Ok(Event::Apply(node))) => match address(&node) {
                Some((name, address)) => drop(known.insert(name, address)),
                None => drop(known.remove(&name_of(&node))),
            },
            Some(Ok(Event::Delete(node))) => drop(known.remove(&name_of(&node))),
            Some(Err(error)) => {
                tracing::warn!(error = %chain(&error), "Nodes: addresses for node ports");
                // What was known stays; what never was is unknowable for now.
                if sender.borrow().nodes.is_some() {
                    continue;
                }
            }
        }
        let told = known.values().take(MOST_NODES).copied().collect();
        set(&sender, |around| &mut around.nodes, told);
    }
}

fn name_of(node: &DynamicObject) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

/// The name of a node and the address that clients may use: an external one first.
fn address(node: &DynamicObject) -> Option<(String, IpAddr)> {
    let addresses = node
        .data
        .pointer("/status/addresses")
        .and_then(Value::as_array)?;
    let of_type = |kind: &str| {
        let mut ones = addresses.iter().filter(|address| address["type"] == kind);
        ones.find_map(|address| address["address"].as_str()?.parse::<IpAddr>().ok())
    };
    let address = of_type("ExternalIP").or_else(|| of_type("InternalIP"))?;
    Some((name_of(node), address))
}

fn set<T: PartialEq>(
    sender: &watch::Sender<Surroundings>,
    field: impl Fn(&mut Surroundings) -> &mut Option<T>,
    value: T,
) {
    sender.send_if_modified(|around| {
        let place = field(around);
        let news = place.as_ref() != Some(&value);
        *place = Some(value);
        news
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn endpoints_are_each_address_with_each_port() {
        let slice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1", "no.address"]}],
            "ports": [{"port": 6443}],
        }));
        let found = endpoints(&slice.expect("a slice"));
        let expected = ["10.0.0.1:6443", "10.0.0.2:6443"].map(|text| text.parse().expect("one"));
        assert_eq!(found, expected.into());
    }

    #[test]
    fn an_external_address_comes_first_and_names_are_passed_over() {
        let node = |addresses: Value| -> DynamicObject {
            serde_json::from_value(json!({
                "metadata": {"name": "n"}, "status": {"addresses": addresses},
            }))
            .expect("a node")
        };
        let both = node(json!([
            {"type": "Hostname", "address": "n"},
            {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "ExternalIP", "address": "192.0.2.1"},
        ]));
        assert_eq!(
            address(&both),
            Some(("n".into(), IpAddr::from([192, 0, 2, 1])))
        );
        assert_eq!(
            address(&node(json!([{"type": "Hostname", "address": "n"}]))),
            None
        );
    }
}
