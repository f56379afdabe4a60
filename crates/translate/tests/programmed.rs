//! When a Gateway counts as served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::IpAddr;
use std::sync::Arc;

use postern_refs::Kind;
use postern_refs::Snapshot;
use postern_refs::status::{Status, Truth};
use postern_translate::{Ack, Acks, ShardAcks, Translation, finish, translate};
use support::*;

/// The condition `Programmed` of the Gateway: status and reason.
fn programmed(translation: &Translation, acks: &Acks) -> (Truth, String) {
    let statuses = finish(translation, acks);
    let Status::Gateway(status) = &*statuses[&(Kind::Gateway, key("gw"))] else {
        panic!("no status of a Gateway");
    };
    let condition = status
        .conditions
        .iter()
        .find(|condition| &*condition.kind == "Programmed")
        .unwrap();
    (condition.status, condition.reason.to_string())
}

#[test]
fn the_envoys_of_a_gateway_are_the_ready_endpoints_of_its_service() {
    let listeners = vec![listener("http", 80, None, None)];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, listeners.clone());
    put_service(&mut snapshot, "other", &["10.0.0.1"]);
    let entitlement = entitlement(&listeners);
    let mut memo = memo();
    let empty = translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(empty.ready[&key("gw")], [].into());

    put_slice(&mut snapshot, "gw", &["10.0.0.2", "10.0.0.3"]);
    let slice = Arc::make_mut(&mut snapshot.endpoint_slices)
        .get_mut(&key("gw-1"))
        .unwrap();
    let object = Arc::make_mut(slice);
    let postern_refs::Body::Valid(body) = &mut object.body else {
        panic!("a slice");
    };
    body.endpoints[1].ready = false;
    let one = translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(
        one.ready[&key("gw")],
        ["10.0.0.2".parse::<IpAddr>().unwrap()].into()
    );
}

#[test]
fn a_gateway_is_programmed_by_its_own_acknowledgements() {
    let listeners = vec![listener("http", 80, None, None)];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, listeners.clone());
    let translation = fresh(&snapshot, &entitlement(&listeners));
    assert_eq!(
        programmed(&translation, &Acks::new()),
        (Truth::False, "Pending".into())
    );

    let proxy = &translation.proxies["default"];
    let all = ShardAcks {
        listeners: proxy
            .listeners
            .keys()
            .map(|name| (name.clone(), Ack::Acknowledged))
            .collect(),
        tables: proxy
            .tables
            .keys()
            .map(|table| (table.clone(), Ack::Acknowledged))
            .collect(),
    };
    let acks = |name: &str, acks: ShardAcks| Acks::from([(key(name), Arc::new(acks))]);
    assert_eq!(
        programmed(&translation, &acks("another", all.clone())),
        (Truth::False, "Pending".into())
    );
    assert_eq!(
        programmed(&translation, &acks("gw", all.clone())),
        (Truth::True, "Programmed".into())
    );
    let mut waiting = entitlement(&listeners);
    waiting.gateways[0].awaits_address = true;
    assert_eq!(
        programmed(&fresh(&snapshot, &waiting), &acks("gw", all.clone())),
        (Truth::False, "AddressNotAssigned".into())
    );
    let mut refused = all;
    for ack in refused.tables.values_mut() {
        *ack = Ack::Refused("no".into());
    }
    assert_eq!(
        programmed(&translation, &acks("gw", refused)),
        (Truth::False, "Invalid".into())
    );
}
