//! A status as it is, and as it should be: what to write.

use postern_refs::objects::ParentRef;
use postern_refs::status::{Condition, GatewayStatus, ParentStatus, RouteStatus, Status};
use serde_json::{Map, Value, json};

use crate::door::{ParentRefDoor, is_ours, message};

/// How many entries the API lets a route's status have.
const MOST_PARENTS: usize = 32;

/// The status to write over that of `object`; `None` if it is as it should be.
///
/// Entries of other controllers stay as they are, as do those of ours that are another instance's:
/// of the same controller name, for a parent that the route still names. An entry is dropped once
/// the route does not name its parent, or when it is among `withdrawn`: parents that were ours.
/// `now` is RFC 3339; it becomes the time of conditions whose status changes.
pub(crate) fn merge(
    object: &Value,
    desired: &Status,
    withdrawn: &[ParentRef],
    now: &str,
) -> Option<Value> {
    let empty = Map::new();
    let current = object
        .get("status")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut merged = current.clone();
    match desired {
        Status::Route(route) => {
            merged.insert(
                "parents".into(),
                parents(object, current, route, withdrawn, now),
            );
        }
        Status::Gateway(gateway) => merge_gateway(&mut merged, current, gateway, now),
    }
    (merged != *current).then_some(Value::Object(merged))
}

fn items<'a>(within: &'a Map<String, Value>, field: &str) -> &'a [Value] {
    within
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn parent_of(value: &Value) -> Option<ParentRef> {
    serde_json::from_value::<ParentRefDoor>(value.clone())
        .ok()
        .map(ParentRef::from)
}

fn parents(
    object: &Value,
    current: &Map<String, Value>,
    desired: &RouteStatus,
    withdrawn: &[ParentRef],
    now: &str,
) -> Value {
    let named: Vec<ParentRef> = object
        .pointer("/spec/parentRefs")
        .and_then(Value::as_array)
        .map(|refs| refs.iter().filter_map(parent_of).collect())
        .unwrap_or_default();
    let mut open: Vec<&ParentStatus> = desired.parents.iter().collect();
    let mut merged: Vec<Value> = Vec::new();
    for entry in items(current, "parents") {
        if entry.get("controllerName").and_then(Value::as_str) != Some(postern_api::CONTROLLER_NAME)
        {
            merged.push(entry.clone());
            continue;
        }
        let Some(parent) = entry.get("parentRef").and_then(parent_of) else {
            continue;
        };
        if let Some(place) = open.iter().position(|status| status.parent == parent) {
            merged.push(parent_entry(open.remove(place), Some(entry), now));
        } else if named.contains(&parent)
            && !withdrawn.contains(&parent)
            && !desired.parents.iter().any(|status| status.parent == parent)
        {
            merged.push(entry.clone());
        }
    }
    merged.extend(
        open.into_iter()
            .map(|status| parent_entry(status, None, now)),
    );
    merged.truncate(MOST_PARENTS.max(items(current, "parents").len()));
    Value::Array(merged)
}

fn parent_entry(desired: &ParentStatus, current: Option<&Value>, now: &str) -> Value {
    let empty = Map::new();
    let have = current.and_then(Value::as_object).unwrap_or(&empty);
    let reference = have
        .get("parentRef")
        .cloned()
        .unwrap_or_else(|| parent_ref(&desired.parent));
    json!({
        "controllerName": postern_api::CONTROLLER_NAME,
        "parentRef": reference,
        "conditions": conditions(&desired.conditions, items(have, "conditions"), now),
    })
}

fn parent_ref(parent: &ParentRef) -> Value {
    let mut reference = Map::new();
    reference.insert("group".into(), (*parent.group).into());
    reference.insert("kind".into(), (*parent.kind).into());
    reference.insert("name".into(), (*parent.name).into());
    if let Some(namespace) = &parent.namespace {
        reference.insert("namespace".into(), (**namespace).into());
    }
    if let Some(section) = &parent.section {
        reference.insert("sectionName".into(), (**section).into());
    }
    if let Some(port) = parent.port {
        reference.insert("port".into(), port.into());
    }
    Value::Object(reference)
}

fn merge_gateway(
    merged: &mut Map<String, Value>,
    current: &Map<String, Value>,
    desired: &GatewayStatus,
    now: &str,
) {
    let addresses = desired
        .addresses
        .iter()
        .map(|address| json!({"type": &*address.kind, "value": &*address.value}));
    put(merged, "addresses", addresses.collect());
    merged.insert(
        "conditions".into(),
        conditions(&desired.conditions, items(current, "conditions"), now),
    );
    let listeners = desired.listeners.iter().map(|listener| {
        let empty = Map::new();
        let have = items(current, "listeners")
            .iter()
            .filter_map(Value::as_object)
            .find(|have| have.get("name").and_then(Value::as_str) == Some(&*listener.name))
            .unwrap_or(&empty);
        let kinds: Vec<Value> = listener
            .supported_kinds
            .iter()
            .map(|kind| json!({"group": &*kind.group, "kind": &*kind.kind}))
            .collect();
        json!({
            "name": &*listener.name,
            "attachedRoutes": listener.attached_routes,
            "supportedKinds": kinds,
            "conditions": conditions(&listener.conditions, items(have, "conditions"), now),
        })
    });
    put(merged, "listeners", listeners.collect());
}

fn put(merged: &mut Map<String, Value>, field: &str, list: Vec<Value>) {
    if list.is_empty() {
        merged.remove(field);
    } else {
        merged.insert(field.into(), Value::Array(list));
    }
}

/// Our conditions, and those of others that stand beside them.
fn conditions(desired: &[Condition], current: &[Value], now: &str) -> Value {
    let text =
        |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let mut merged: Vec<Value> = desired
        .iter()
        .map(|condition| {
            let since = current
                .iter()
                .find(|have| text(have, "type").as_deref() == Some(&*condition.kind))
                .filter(|have| text(have, "status").as_deref() == Some(condition.status.as_str()))
                .and_then(|have| text(have, "lastTransitionTime"));
            json!({
                "type": &*condition.kind,
                "status": condition.status.as_str(),
                "reason": &*condition.reason,
                "message": message(&condition.message),
                "observedGeneration": condition.observed_generation,
                "lastTransitionTime": since.unwrap_or_else(|| now.into()),
            })
        })
        .collect();
    let foreign = |have: &&Value| text(have, "type").is_some_and(|kind| !is_ours(&kind));
    merged.extend(current.iter().filter(foreign).cloned());
    Value::Array(merged)
}

#[cfg(test)]
mod tests {
    use postern_refs::objects::RouteKind;
    use postern_refs::status::{Address, ListenerStatus, Truth};

    use super::*;

    const THEN: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-06-01T00:00:00Z";
    const OURS: &str = postern_api::CONTROLLER_NAME;

    fn parent(name: &str) -> ParentRef {
        ParentRef {
            group: postern_api::GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: None,
            name: name.into(),
            section: None,
            port: None,
        }
    }

    fn condition(kind: &str, status: Truth, reason: &str) -> Condition {
        Condition {
            kind: kind.into(),
            status,
            reason: reason.into(),
            message: "m".into(),
            observed_generation: 2,
        }
    }

    fn route(parents: &[(&str, Truth)]) -> Status {
        let parents = parents.iter().map(|(name, status)| ParentStatus {
            parent: parent(name),
            conditions: vec![condition("Accepted", *status, "R")],
        });
        Status::Route(RouteStatus {
            parents: parents.collect(),
        })
    }

    fn entry(controller: &str, name: &str, status: &str, time: &str) -> Value {
        json!({
            "controllerName": controller,
            "parentRef": {"group": postern_api::GATEWAY_GROUP, "kind": "Gateway", "name": name},
            "conditions": [{
                "type": "Accepted", "status": status, "reason": "R", "message": "m",
                "observedGeneration": 2, "lastTransitionTime": time,
            }],
        })
    }

    fn object(named: &[&str], entries: &[Value]) -> Value {
        let refs: Vec<Value> = named.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"parentRefs": refs}, "status": {"parents": entries}})
    }

    #[test]
    fn what_is_as_it_should_be_is_not_written() {
        let have = object(&["g"], &[entry(OURS, "g", "True", THEN)]);
        assert_eq!(merge(&have, &route(&[("g", Truth::True)]), &[], NOW), None);
        let none = json!({"spec": {}});
        let made = merge(&none, &route(&[("g", Truth::True)]), &[], NOW).expect("a write");
        assert_eq!(made, json!({"parents": [entry(OURS, "g", "True", NOW)]}));
        // What was written is what is read next time.
        let after = json!({"spec": {"parentRefs": [{"name": "g"}]}, "status": made});
        assert_eq!(
            merge(&after, &route(&[("g", Truth::True)]), &[], THEN),
            None
        );
    }

    #[test]
    fn times_change_with_the_status_only() {
        let have = object(&["g"], &[entry(OURS, "g", "True", THEN)]);
        let time = |desired: &Status| {
            let made = merge(&have, desired, &[], NOW).expect("a write");
            made.pointer("/parents/0/conditions/0/lastTransitionTime")
                .cloned()
        };
        assert_eq!(time(&route(&[("g", Truth::False)])), Some(NOW.into()));
        let Status::Route(mut other_reason) = route(&[("g", Truth::True)]) else {
            panic!()
        };
        other_reason.parents[0].conditions[0].reason = "Other".into();
        assert_eq!(time(&Status::Route(other_reason)), Some(THEN.into()));
    }

    #[test]
    fn foreign_entries_stay_as_they_are() {
        let odd = json!({"controllerName": "other.example/c", "parentRef": {"name": "g", "new": [1.50]}, "x": null});
        let have = object(
            &["g", "h"],
            &[
                odd.clone(),
                entry(OURS, "g", "True", THEN),
                entry("other.example/c", "h", "False", THEN),
            ],
        );
        let made = merge(
            &have,
            &route(&[("g", Truth::False), ("h", Truth::True)]),
            &[],
            NOW,
        )
        .expect("a write");
        assert_eq!(
            made,
            json!({"parents": [
                odd,
                entry(OURS, "g", "False", NOW),
                entry("other.example/c", "h", "False", THEN),
                entry(OURS, "h", "True", NOW),
            ]})
        );
    }

    #[test]
    fn an_entry_of_ours_goes_when_its_parent_does_and_another_instances_stays() {
        let entries = [
            entry(OURS, "mine", "True", THEN),
            entry(OURS, "theirs", "True", THEN),
        ];
        let have = object(&["mine", "theirs"], &entries);
        let none = route(&[]);
        assert_eq!(merge(&have, &none, &[], NOW), None);
        let made = merge(&have, &none, &[parent("mine")], NOW).expect("a write");
        assert_eq!(made, json!({"parents": [entries[1]]}));
        // The route does not name it any more: it is nobody's.
        let have = object(&["theirs"], &entries);
        assert_eq!(
            merge(&have, &none, &[], NOW),
            Some(json!({"parents": [entries[1]]}))
        );
        // Twice the same, as two writers without a resource version make it.
        let have = object(&["mine"], &[entries[0].clone(), entries[0].clone()]);
        let made = merge(&have, &route(&[("mine", Truth::True)]), &[], NOW).expect("a write");
        assert_eq!(made, json!({"parents": [entries[0]]}));
    }

    #[test]
    fn a_status_takes_no_more_parents_than_the_api_does() {
        let foreign: Vec<Value> = (0..31)
            .map(|n| entry("other.example/c", &format!("g{n}"), "True", THEN))
            .collect();
        let have = object(&["a", "b"], &foreign);
        let made = merge(
            &have,
            &route(&[("a", Truth::True), ("b", Truth::True)]),
            &[],
            NOW,
        )
        .expect("a write");
        let parents = made["parents"].as_array().expect("a list");
        assert_eq!(parents.len(), 32);
        assert_eq!(parents[31], entry(OURS, "a", "True", NOW));
    }

    #[test]
    fn a_gateways_status_is_whole_and_keeps_what_others_put_beside_it() {
        let theirs = json!({"type": "kuadrant.io/Affected", "status": "True", "reason": "R", "message": "", "lastTransitionTime": THEN});
        let have = json!({"status": {
            "attachedListenerSets": 2,
            "addresses": [{"type": "IPAddress", "value": "10.0.0.1"}],
            "conditions": [
                {"type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller", "lastTransitionTime": "1970-01-01T00:00:00Z"},
                {"type": "Programmed", "status": "True", "reason": "Programmed", "message": "m", "observedGeneration": 1, "lastTransitionTime": THEN},
                theirs,
            ],
            "listeners": [
                {"name": "web", "attachedRoutes": 1, "supportedKinds": [], "conditions": [{"type": "Accepted", "status": "True", "lastTransitionTime": THEN}]},
                {"name": "gone", "attachedRoutes": 1, "supportedKinds": [], "conditions": []},
            ],
        }});
        let desired = Status::Gateway(GatewayStatus {
            addresses: vec![Address {
                kind: "Hostname".into(),
                value: "a.example".into(),
            }],
            conditions: vec![
                condition("Accepted", Truth::True, "Accepted"),
                condition("Programmed", Truth::True, "Programmed"),
            ],
            listeners: vec![ListenerStatus {
                name: "web".into(),
                attached_routes: 3,
                supported_kinds: vec![RouteKind {
                    group: postern_api::GATEWAY_GROUP.into(),
                    kind: "HTTPRoute".into(),
                }],
                conditions: vec![condition("Accepted", Truth::True, "Accepted")],
            }],
        });
        let made = merge(&have, &desired, &[], NOW).expect("a write");
        let ours = |kind: &str, reason: &str, time: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "m", "observedGeneration": 2, "lastTransitionTime": time});
        assert_eq!(
            made,
            json!({
                "attachedListenerSets": 2,
                "addresses": [{"type": "Hostname", "value": "a.example"}],
                "conditions": [ours("Accepted", "Accepted", NOW), ours("Programmed", "Programmed", THEN), theirs],
                "listeners": [{
                    "name": "web", "attachedRoutes": 3,
                    "supportedKinds": [{"group": postern_api::GATEWAY_GROUP, "kind": "HTTPRoute"}],
                    "conditions": [ours("Accepted", "Accepted", THEN)],
                }],
            })
        );
        let after = json!({"status": made});
        assert_eq!(merge(&after, &desired, &[], NOW), None);
    }

    #[test]
    fn a_message_is_cut_where_the_api_cuts_it() {
        let Status::Route(mut long) = route(&[("g", Truth::True)]) else {
            panic!()
        };
        long.parents[0].conditions[0].message = "é".repeat(20_000).into();
        let made = merge(&json!({}), &Status::Route(long), &[], NOW).expect("a write");
        let message = made
            .pointer("/parents/0/conditions/0/message")
            .and_then(Value::as_str);
        assert_eq!(message.map(str::len), Some(32_768));
    }
}
