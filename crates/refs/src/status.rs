//! Statuses as Postern means them: without times, which only the writer adds, so that equal
//! statuses are equal values.

use std::collections::BTreeMap;
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

/// Statuses by object. An `Arc` stays the same while its status does.
pub type Statuses = BTreeMap<(Kind, Key), Arc<Status>>;
