//! Ports that only the OpenShift router reaches.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use postern_api::entitlement::{Exposed, InstanceRef, PortAllocation, PortTrust};
use postern_model::{Host, ListenerKind, Material, SecretId, Trust};
use postern_refs::Snapshot;
use support::{entitlement, fresh, listener, put_gateway};

/// The router speaks TLS to the HTTP listeners: they are the same routes, by a port on which it is
/// believed, and the certificate is the Envoy's own.
#[test]
fn a_router_that_reencrypts_finds_the_http_listeners_within_tls() {
    let listeners = vec![
        listener("one", 80, Some("a.example"), None),
        listener("two", 80, Some("b.example"), None),
    ];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, listeners.clone());
    let mut contract = entitlement(&listeners);
    contract.instance = InstanceRef {
        namespace: support::NS.into(),
        name: "default".into(),
        ..InstanceRef::default()
    };
    contract.gateways[0].ports.push(PortAllocation {
        port: 80,
        exposure: Exposed::RouterReencrypt,
        container_port: 20_080,
        trust: PortTrust::ForwardedHeaders,
    });
    let translation = fresh(&snapshot, &contract);
    let proxy = &translation.proxies["default"];
    let of_port = |port: u16| {
        let mut listeners = proxy.listeners.values();
        listeners.find(|listener| listener.port == port).unwrap()
    };
    let (direct, router) = (of_port(10_080), of_port(20_080));
    assert_eq!(direct.trust, Trust::Nothing);
    assert_eq!(router.trust, Trust::ForwardedHeaders { hops: 1 });
    let ListenerKind::Http { table } = &direct.kind else {
        panic!("no TLS for clients: {direct:?}");
    };
    let ListenerKind::Https { chains } = &router.kind else {
        panic!("TLS for the router: {router:?}");
    };
    let [chain] = &chains[..] else {
        panic!("one chain, whatever the server name: {chains:?}");
    };
    assert_eq!((&chain.server_name, &chain.table), (&Host::Any, table));
    let mounted = SecretId("mounted".into());
    assert_eq!(&*chain.certificates, std::slice::from_ref(&mounted));
    assert_eq!(
        proxy.secrets[&mounted].material,
        Material::Mounted {
            dir: postern_api::ENVOY_TLS_DIR.into()
        }
    );

    contract.gateways[0].ports.pop();
    let translation = fresh(&snapshot, &contract);
    assert!(translation.proxies["default"].secrets.is_empty());
}
