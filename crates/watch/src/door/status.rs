//! What of a status is ours, and its digest.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use postern_refs::objects::RouteKind;
use postern_refs::status::{
    Address, Condition, GatewayStatus, ListenerStatus, ParentStatus, RouteStatus, Status, Truth,
};
use postern_refs::{FieldPath, Name};
use serde::Deserialize;

use super::decode::decode;
use super::types::{List, ParentRefDoor};
use crate::text::{Text, intern};

/// The longest message that the API takes, in bytes.
const LONGEST_MESSAGE: usize = 32_768;

/// Whether a condition is one of Postern's. Others may put conditions of a domain of their own
/// into a status that is ours (Kuadrant does into Gateways); those are neither compared nor lost.
pub(crate) fn is_ours(kind: &str) -> bool {
    match kind.split_once('/') {
        Some((domain, _)) => domain == postern_api::GROUP,
        None => true,
    }
}

/// A message as it is written: cut at the API's longest.
pub(crate) fn message(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A number that is equal for statuses that mean the same, within this process: neither the order
/// of conditions and listeners nor times matter.
#[must_use]
pub fn digest(status: &Status) -> u64 {
    static SEED: OnceLock<RandomState> = OnceLock::new();
    SEED.get_or_init(RandomState::new)
        .hash_one(canonical(status.clone()))
}

fn canonical(mut status: Status) -> Status {
    fn conditions(list: &mut [Condition]) {
        for condition in &mut *list {
            if condition.message.len() > LONGEST_MESSAGE {
                condition.message = message(&condition.message).into();
            }
        }
        list.sort();
    }
    match &mut status {
        Status::Route(route) => {
            for parent in &mut route.parents {
                conditions(&mut parent.conditions);
            }
            route.parents.sort();
        }
        Status::Gateway(gateway) => {
            conditions(&mut gateway.conditions);
            for listener in &mut gateway.listeners {
                conditions(&mut listener.conditions);
                listener.supported_kinds.sort();
            }
            gateway
                .listeners
                .sort_by(|left, right| left.name.cmp(&right.name));
        }
    }
    status
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionDoor {
    #[serde(rename = "type")]
    kind: Text,
    status: TruthDoor,
    reason: Option<Text>,
    message: Option<Text>,
    observed_generation: Option<i64>,
}

#[derive(Deserialize)]
enum TruthDoor {
    True,
    False,
    Unknown,
}

#[derive(Default, Deserialize)]
struct RouteDoor {
    #[serde(default)]
    parents: List<RouteParentDoor, 256>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RouteParentDoor {
    parent_ref: ParentRefDoor,
    controller_name: Text,
    #[serde(default)]
    conditions: List<ConditionDoor, 64>,
}

#[derive(Default, Deserialize)]
struct GatewayDoor {
    #[serde(default)]
    addresses: List<AddressDoor, 64>,
    #[serde(default)]
    conditions: List<ConditionDoor, 64>,
    #[serde(default)]
    listeners: List<ListenerDoor, 256>,
}

#[derive(Deserialize)]
struct AddressDoor {
    #[serde(rename = "type")]
    kind: Option<Text>,
    value: Option<Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListenerDoor {
    name: Text,
    attached_routes: Option<u32>,
    #[serde(default)]
    supported_kinds: List<KindDoor, 64>,
    #[serde(default)]
    conditions: List<ConditionDoor, 64>,
}

#[derive(Deserialize)]
struct KindDoor {
    group: Option<Text>,
    kind: Text,
}

fn conditions<const MAX: usize>(list: List<ConditionDoor, MAX>) -> Vec<Condition> {
    list.0
        .into_iter()
        .filter(|condition| is_ours(&condition.kind.0))
        .map(|condition| Condition {
            kind: condition.kind.into(),
            status: match condition.status {
                TruthDoor::True => Truth::True,
                TruthDoor::False => Truth::False,
                TruthDoor::Unknown => Truth::Unknown,
            },
            reason: condition.reason.map_or_else(|| intern(""), Name::from),
            message: condition.message.map_or_else(|| intern(""), Name::from),
            observed_generation: condition.observed_generation.unwrap_or(0),
        })
        .collect()
}

/// Our entries of a route's status; `json` may be `null`.
pub(super) fn route(json: &str) -> Option<Status> {
    let door: Option<RouteDoor> = decode(json, &FieldPath::default(), None).ok()?;
    Some(Status::Route(RouteStatus {
        parents: door
            .unwrap_or_default()
            .parents
            .0
            .into_iter()
            .filter(|entry| &*entry.controller_name.0 == postern_api::CONTROLLER_NAME)
            .map(|entry| ParentStatus {
                parent: entry.parent_ref.into(),
                conditions: conditions(entry.conditions),
            })
            .collect(),
    }))
}

/// A Gateway's status; `json` may be `null`.
pub(super) fn gateway(json: &str) -> Option<Status> {
    let door: Option<GatewayDoor> = decode(json, &FieldPath::default(), None).ok()?;
    let door = door.unwrap_or_default();
    Some(Status::Gateway(GatewayStatus {
        addresses: door.addresses.map(|address| Address {
            kind: address.kind.map_or_else(|| intern("IPAddress"), Name::from),
            value: address.value.map_or_else(|| intern(""), Name::from),
        }),
        conditions: conditions(door.conditions),
        listeners: door.listeners.map(|listener| ListenerStatus {
            name: listener.name.into(),
            attached_routes: listener.attached_routes.unwrap_or(0),
            supported_kinds: listener.supported_kinds.map(|kind| RouteKind {
                group: kind
                    .group
                    .map_or_else(|| intern(postern_api::GATEWAY_GROUP), Name::from),
                kind: kind.kind.into(),
            }),
            conditions: conditions(listener.conditions),
        }),
    }))
}
