//! Route tables: virtual hosts, and entries in their total order.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::{ClusterId, Host, Origin, Text};

/// A route table's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub Text);

/// How an entry's path is matched. A request has one canonical path (normalised, slashes merged)
/// before any entry is looked at; the query is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// Exactly this path.
    Exact(Text),
    /// By path elements: `/foo` matches `/foo`, `/foo/` and `/foo/bar`, not `/foobar`. Held
    /// without a trailing slash, except `/`, which matches every path.
    Prefix(Text),
}

/// How a header's or query parameter's value is matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueMatch {
    /// Exactly this value, byte by byte.
    Exact(Text),
}

/// A condition on a request header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderMatch {
    /// The header's name in lower case.
    pub name: Text,
    /// The value. A header that comes several times matches if one of its values does (Envoy 1.39
    /// and later); but Envoy holds some well-known ones (`accept`, `authorization`, `user-agent` …)
    /// as one value, joined by commas.
    pub value: ValueMatch,
}

/// A condition on a query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueryMatch {
    /// The parameter's name, case-sensitive.
    pub name: Text,
    /// The value of its first occurrence, compared as it stands in the request, not decoded.
    pub value: ValueMatch,
}

/// All conditions that a request has to meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Match {
    /// The path.
    pub path: PathMatch,
    /// The method, in upper case.
    pub method: Option<Text>,
    /// All of these headers.
    pub headers: Vec<HeaderMatch>,
    /// All of these query parameters.
    pub query: Vec<QueryMatch>,
}

/// Kinds of path match, the strongest first (Gateway API, `HTTPRouteRule.matches`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathRank {
    /// An exact path.
    Exact,
    /// A prefix.
    Prefix,
}

/// The total order of the entries of a virtual host: the least is tried first.
///
/// Source: Gateway API, `HTTPRouteRule.matches`: exact path, longest prefix, method, most headers,
/// most query parameters; then the oldest route, then `namespace/name`; then the order in the
/// route. The derived order is the specification: the fields stand in its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Precedence {
    /// The kind of path match.
    pub path: PathRank,
    /// Characters in the path.
    pub length: Reverse<u32>,
    /// Whether a method is asked for.
    pub method: Reverse<bool>,
    /// Number of header conditions.
    pub headers: Reverse<u16>,
    /// Number of query conditions.
    pub query: Reverse<u16>,
    /// When the route was created, microseconds since 1970.
    pub created: i64,
    /// Namespace and name, and the place in the route.
    pub route: RouteId,
}

/// Where an entry stands: unique within a table's virtual host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId {
    /// The route's namespace.
    pub namespace: Text,
    /// The route's name.
    pub name: Text,
    /// The source it came from (more than one cluster comes later).
    pub source: u16,
    /// The rule's index in the route.
    pub rule: u16,
    /// The match's index in the rule.
    pub matching: u16,
}

/// What a redirect does to the path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathRewrite {
    /// The whole path is replaced.
    Full(Text),
    /// The matched prefix is replaced.
    Prefix(Text),
}

/// An answer that sends the client elsewhere. What is `None` stays as in the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Text>,
    /// The host name.
    pub host: Option<Text>,
    /// The port; resolved by the translator, who knows the listener's. Given wherever a scheme is.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// An answer without a backend, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fixed {
    /// The HTTP status.
    pub status: u16,
    /// Why, for people; never sent to clients.
    pub because: Text,
}

/// Where a share of the requests goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// To a cluster.
    Cluster(ClusterId),
    /// To nowhere: this share gets 500, because the backend is broken.
    Broken(Text),
}

/// A share of the requests of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Its weight; the share is this over the sum. Never 0.
    pub weight: u32,
    /// Where it goes.
    pub target: Target,
}

/// What happens to a request that matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes to one of these; never empty, and at least one of them is a cluster.
    Forward(Vec<Backend>),
    /// It is sent elsewhere.
    Redirect(Redirect),
    /// It is answered here.
    Fixed(Fixed),
}

/// One match of one rule of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Its place in the order.
    pub precedence: Precedence,
    /// What it matches.
    pub matcher: Match,
    /// What happens.
    pub action: Action,
    /// The rule it comes from.
    pub origin: Origin,
}

/// The entries of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualHost {
    /// Which hosts.
    pub host: Host,
    /// The entries, by precedence. None is a valid state: every request gets 404.
    pub entries: Vec<Arc<RouteEntry>>,
}

/// The unit that goes over the wire: the routes of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub id: TableId,
    /// The virtual hosts by host, no two with the same.
    pub hosts: Vec<Arc<VirtualHost>>,
}

impl Match {
    /// The part of the total order that the conditions decide.
    #[must_use]
    pub fn precedence(&self, created: i64, route: RouteId) -> Precedence {
        let (path, length) = match &self.path {
            PathMatch::Exact(text) => (PathRank::Exact, text.len()),
            PathMatch::Prefix(text) => (PathRank::Prefix, text.len()),
        };
        let short = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        Precedence {
            path,
            length: Reverse(u32::try_from(length).unwrap_or(u32::MAX)),
            method: Reverse(self.method.is_some()),
            headers: Reverse(short(self.headers.len())),
            query: Reverse(short(self.query.len())),
            created,
            route,
        }
    }
}
