//! HTTPRoute, and what all routes share.

use crate::Name;

/// `ParentReference`. Group and kind have the API's defaults.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentRef {
    /// `gateway.networking.k8s.io` by default.
    pub group: Name,
    /// `Gateway` by default.
    pub kind: Name,
    /// The namespace; `None` is the route's own.
    pub namespace: Option<Name>,
    /// The name.
    pub name: Name,
    /// The listener; `None` is every one.
    pub section: Option<Name>,
    /// The port; `None` is every one.
    pub port: Option<u16>,
}

/// `BackendRef`. Group and kind have the API's defaults.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendRef {
    /// Empty (core) by default.
    pub group: Name,
    /// `Service` by default.
    pub kind: Name,
    /// The namespace; `None` is the route's own.
    pub namespace: Option<Name>,
    /// The name.
    pub name: Name,
    /// The port; required for Services.
    pub port: Option<u16>,
    /// The weight; 1 by default.
    pub weight: u32,
}

/// `HTTPPathMatch.type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathType {
    /// `Exact`.
    Exact,
    /// `PathPrefix`, the default.
    Prefix,
    /// `RegularExpression`, or one that we do not know.
    Other(Name),
}

/// `HeaderMatchType` and `QueryParamMatchType`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchKind {
    /// `Exact`, the default.
    Exact,
    /// `RegularExpression`, or one that we do not know.
    Other(Name),
}

/// `HTTPHeaderMatch` and `HTTPQueryParamMatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueMatch {
    /// How.
    pub kind: MatchKind,
    /// Of which header or parameter.
    pub name: Name,
    /// With what.
    pub value: Name,
}

/// `HTTPRouteMatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpMatch {
    /// The type of path match.
    pub path_type: PathType,
    /// The path; `/` by default.
    pub path: Name,
    /// Headers.
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    pub query: Vec<ValueMatch>,
    /// The method.
    pub method: Option<Name>,
}

/// `HTTPPathModifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// `ReplaceFullPath`.
    Full(Name),
    /// `ReplacePrefixMatch`.
    Prefix(Name),
    /// One that we do not know, or one without its value.
    Other(Name),
}

/// `HTTPRequestRedirectFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Name>,
    /// The host.
    pub hostname: Option<Name>,
    /// The path.
    pub path: Option<PathRewrite>,
    /// The port.
    pub port: Option<u16>,
    /// The status; 302 by default.
    pub status: u16,
}

/// `HTTPRouteFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpFilter {
    /// `RequestRedirect`.
    Redirect(Redirect),
    /// One that is not built, or that we do not know: its `type`.
    Other(Name),
}

/// `HTTPRouteRule`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// The matches; the API's default (every path) is applied at the door.
    pub matches: Vec<HttpMatch>,
    /// The filters in their order.
    pub filters: Vec<HttpFilter>,
    /// The backends.
    pub backends: Vec<BackendRef>,
}

/// `gateway.networking.k8s.io HTTPRoute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// The parents.
    pub parents: Vec<ParentRef>,
    /// The hostnames; none is every host of the listener.
    pub hostnames: Vec<Name>,
    /// The rules; the API's default (one rule that matches every path) is applied at the door.
    pub rules: Vec<HttpRule>,
}
