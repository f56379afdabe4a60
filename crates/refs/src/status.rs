//! Statuses as Postern means them: without times, which only the writer adds, so that equal
//! statuses are equal values.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::objects::{ParentRef, RouteKind};
use crate::{Key, Kind, Name};

/// `metav1.Condition.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl Truth {
    /// The value as the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

/// `metav1.Condition` without `lastTransitionTime`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// Its type, for example `Accepted`.
    pub kind: Name,
    /// Whether it holds.
    pub status: Truth,
    /// Why, as one word of the specification.
    pub reason: Name,
    /// Why, for people: the field and the next step. At most 32,768 bytes.
    pub message: Name,
    /// The generation that was looked at.
    pub observed_generation: i64,
}

impl Condition {
    /// Whether it is in its bad state or in none; for most types that is not to be `True`. One that
    /// only waits (reason `Pending`) is bad too.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        let good = match &*self.kind {
            "Conflicted" | "PartiallyInvalid" => Truth::False,
            _ => Truth::True,
        };
        self.status != good
    }
}

/// `RouteParentStatus` with our controller name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentStatus {
    /// The parent, as the route names it.
    pub parent: ParentRef,
    /// The conditions, by type.
    pub conditions: Vec<Condition>,
}

/// Our part of a route's status. Entries of other controllers are left as they are: an entry is
/// ours if controller name *and* parent are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteStatus {
    /// One for each parent of ours, in the route's order.
    pub parents: Vec<ParentStatus>,
}

/// `GatewayStatusAddress`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// `IPAddress` or `Hostname`.
    pub kind: Name,
    /// The address.
    pub value: Name,
}

/// `ListenerStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: Name,
    /// How many routes are attached.
    pub attached_routes: u32,
    /// Which kinds of route it takes.
    pub supported_kinds: Vec<RouteKind>,
    /// The conditions, by type.
    pub conditions: Vec<Condition>,
}

/// `GatewayStatus`; all of it is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GatewayStatus {
    /// Where clients reach it.
    pub addresses: Vec<Address>,
    /// The conditions, by type.
    pub conditions: Vec<Condition>,
    /// The listeners, in the Gateway's order.
    pub listeners: Vec<ListenerStatus>,
}

/// The status of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Of a route.
    Route(RouteStatus),
    /// Of a Gateway.
    Gateway(GatewayStatus),
}

impl Status {
    /// All conditions with what each is about: empty for a Gateway as a whole, `listener web`,
    /// `at default listener web` for a route at a parent.
    #[must_use]
    pub fn conditions(&self) -> Vec<(String, &Condition)> {
        let about = |text: &str, conditions| -> Vec<(String, &Condition)> {
            let conditions: &[Condition] = conditions;
            conditions.iter().map(|one| (text.into(), one)).collect()
        };
        match self {
            Status::Route(route) => route
                .parents
                .iter()
                .flat_map(|at| about(&format!("at {}", place(&at.parent)), &at.conditions))
                .collect(),
            Status::Gateway(gateway) => {
                let mut all = about("", &gateway.conditions);
                for listener in &gateway.listeners {
                    let text = format!("listener {}", listener.name);
                    all.extend(about(&text, &listener.conditions));
                }
                all
            }
        }
    }
}

fn place(parent: &ParentRef) -> String {
    let mut text = String::new();
    if let Some(namespace) = &parent.namespace {
        text.push_str(namespace);
        text.push('/');
    }
    text.push_str(&parent.name);
    if let Some(section) = &parent.section {
        text.push_str(" listener ");
        text.push_str(section);
    }
    if let Some(port) = parent.port {
        text.push_str(&format!(" port {port}"));
    }
    text
}

/// Statuses by object. An `Arc` stays the same while its status does.
pub type Statuses = BTreeMap<(Kind, Key), Arc<Status>>;

/// Puts the statuses of another instance to those of the first. Each instance speaks of every route
/// of a Snapshot, if only with nothing to say, so what several say of one route stands together.
pub fn merge(into: &mut Statuses, more: Statuses) {
    for (key, status) in more {
        match into.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(status);
            }
            Entry::Occupied(mut entry) => match &*status {
                Status::Route(said) if said.parents.is_empty() => {}
                Status::Route(said) => match Arc::make_mut(entry.get_mut()) {
                    Status::Route(known) => known.parents.extend(said.parents.iter().cloned()),
                    Status::Gateway(_) => {}
                },
                // A Gateway belongs to one instance.
                Status::Gateway(_) => {
                    entry.insert(status);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: Truth) -> Condition {
        Condition {
            kind: kind.into(),
            status,
            reason: "R".into(),
            message: "".into(),
            observed_generation: 1,
        }
    }

    fn at(name: &str, section: Option<&str>) -> ParentStatus {
        ParentStatus {
            parent: ParentRef {
                group: "".into(),
                kind: "Gateway".into(),
                namespace: None,
                name: name.into(),
                section: section.map(Into::into),
                port: None,
            },
            conditions: vec![condition("Accepted", Truth::True)],
        }
    }

    #[test]
    fn each_type_knows_its_bad_state() {
        for (kind, status, bad) in [
            ("Accepted", Truth::True, false),
            ("Accepted", Truth::Unknown, true),
            ("Conflicted", Truth::False, false),
            ("Conflicted", Truth::True, true),
            ("PartiallyInvalid", Truth::True, true),
        ] {
            assert_eq!(condition(kind, status).is_bad(), bad, "{kind} {status:?}");
        }
    }

    #[test]
    fn an_instance_with_nothing_to_say_of_a_route_takes_nothing_away() {
        let route = |parents| {
            let key = (Kind::HttpRoute, Key::new("t", "r"));
            Statuses::from([(key, Arc::new(Status::Route(RouteStatus { parents })))])
        };
        let mut all = route(vec![at("one", None)]);
        merge(&mut all, route(Vec::new()));
        merge(&mut all, route(vec![at("two", Some("web"))]));
        let status = all.values().next().unwrap();
        let abouts: Vec<String> = status
            .conditions()
            .into_iter()
            .map(|(about, _)| about)
            .collect();
        assert_eq!(abouts, ["at one", "at two listener web"]);
    }
}
