//! HTTPRoute. Source: Gateway API v1.6.3, `apis/v1/httproute_types.go`.

use postern_refs::objects::{
    BackendRef, HttpFilter, HttpMatch, HttpRoute, HttpRule, MatchKind, ParentRef, PathRewrite,
    PathType, Redirect, ValueMatch,
};
use postern_refs::status::Status;
use postern_refs::{Kind, Map, Name, Snapshot};
use serde::Deserialize;

use super::types::{BackendRefDoor, List, ParentRefDoor, Port, Skip, Whole};
use super::{Inside, Lower, Problem};
use crate::text::{Text, intern};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct HttpRouteDoor {
    #[serde(default)]
    parent_refs: List<ParentRefDoor, 32>,
    #[serde(default)]
    hostnames: List<Text, 16>,
    #[serde(default)]
    rules: List<RuleDoor, 16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a rule")]
struct RuleDoor {
    /// Policies may name it; routing does not need it.
    #[serde(rename = "name")]
    _name: Option<Skip>,
    #[serde(default)]
    matches: List<MatchDoor, 64>,
    #[serde(default)]
    filters: List<FilterDoor, 16>,
    #[serde(default)]
    backend_refs: List<BackendRefDoor, 16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a match")]
struct MatchDoor {
    path: Option<PathDoor>,
    #[serde(default)]
    headers: List<ValueDoor, 16>,
    #[serde(default)]
    query_params: List<ValueDoor, 16>,
    method: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "a path match")]
struct PathDoor {
    #[serde(rename = "type")]
    kind: Option<Text>,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a match of name and value")]
struct ValueDoor {
    #[serde(rename = "type")]
    kind: Option<Text>,
    name: Text,
    value: String,
}

/// A filter. Bodies of types that are not built are passed over here: the filter as a whole is
/// kept as [`HttpFilter::Other`], and refused by its type.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a filter")]
struct FilterDoor {
    #[serde(rename = "type")]
    kind: Text,
    request_redirect: Option<RedirectDoor>,
    request_header_modifier: Option<Skip>,
    response_header_modifier: Option<Skip>,
    request_mirror: Option<Skip>,
    url_rewrite: Option<Skip>,
    extension_ref: Option<Skip>,
    cors: Option<Skip>,
    external_auth: Option<Skip>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct RedirectDoor {
    scheme: Option<Text>,
    hostname: Option<Text>,
    path: Option<RewriteDoor>,
    port: Option<Port>,
    status_code: Option<Whole<100, 599>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a path modifier")]
struct RewriteDoor {
    #[serde(rename = "type")]
    kind: Text,
    replace_full_path: Option<String>,
    replace_prefix_match: Option<String>,
}

impl Lower for HttpRoute {
    const KIND: Kind = Kind::HttpRoute;
    type Door = HttpRouteDoor;

    fn lower(door: HttpRouteDoor, inside: &mut Inside<'_>) -> Result<Self, Problem> {
        let mut rules = Vec::with_capacity(door.rules.0.len().max(1));
        for (number, rule) in door.rules.0.into_iter().enumerate() {
            rules.push(lower_rule(rule, number, inside)?);
        }
        if rules.is_empty() {
            rules.push(lower_rule(RuleDoor::default(), 0, inside)?);
        }
        Ok(HttpRoute {
            parents: door.parent_refs.map(ParentRef::from),
            hostnames: door.hostnames.map(Name::from),
            rules,
        })
    }

    const HAS_STATUS: bool = true;
    fn status(json: &str) -> Option<Status> {
        super::status::route(json)
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.http_routes
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.http_routes
    }
}

fn lower_rule(door: RuleDoor, number: usize, inside: &mut Inside<'_>) -> Result<HttpRule, Problem> {
    let mut matches = door.matches.map(lower_match);
    if matches.is_empty() {
        matches.push(lower_match(MatchDoor::default()));
    }
    let mut filters = Vec::with_capacity(door.filters.0.len());
    for (place, filter) in door.filters.0.into_iter().enumerate() {
        filters.push(lower_filter(
            filter,
            &format!("rules[{number}].filters[{place}]"),
            inside,
        )?);
    }
    Ok(HttpRule {
        matches,
        filters,
        backends: door.backend_refs.map(BackendRef::from),
    })
}

fn lower_match(door: MatchDoor) -> HttpMatch {
    let path = door.path.unwrap_or_default();
    HttpMatch {
        path_type: match path.kind.as_ref().map_or("PathPrefix", |kind| &*kind.0) {
            "Exact" => PathType::Exact,
            "PathPrefix" => PathType::Prefix,
            other => PathType::Other(intern(other)),
        },
        path: path.value.map_or_else(|| intern("/"), Name::from),
        headers: door.headers.map(lower_value),
        query: door.query_params.map(lower_value),
        method: door.method.map(Name::from),
    }
}

fn lower_value(door: ValueDoor) -> ValueMatch {
    ValueMatch {
        kind: match door.kind.as_ref().map_or("Exact", |kind| &*kind.0) {
            "Exact" => MatchKind::Exact,
            other => MatchKind::Other(intern(other)),
        },
        name: door.name.into(),
        value: door.value.into(),
    }
}

fn lower_filter(
    door: FilterDoor,
    place: &str,
    inside: &mut Inside<'_>,
) -> Result<HttpFilter, Problem> {
    let bodies = [
        (
            "RequestRedirect",
            "requestRedirect",
            door.request_redirect.is_some(),
        ),
        (
            "RequestHeaderModifier",
            "requestHeaderModifier",
            door.request_header_modifier.is_some(),
        ),
        (
            "ResponseHeaderModifier",
            "responseHeaderModifier",
            door.response_header_modifier.is_some(),
        ),
        (
            "RequestMirror",
            "requestMirror",
            door.request_mirror.is_some(),
        ),
        ("URLRewrite", "urlRewrite", door.url_rewrite.is_some()),
        ("ExtensionRef", "extensionRef", door.extension_ref.is_some()),
        ("CORS", "cors", door.cors.is_some()),
        ("ExternalAuth", "externalAuth", door.external_auth.is_some()),
    ];
    for (kind, field, set) in bodies {
        // A body of another type has no effect: named, so that nobody believes it had.
        if set && *kind != *door.kind.0 {
            let mut path = inside.base().clone();
            path.0
                .extend(postern_refs::FieldPath::parse(&format!("{place}.{field}")).0);
            inside.unread(path);
        }
    }
    match (&*door.kind.0, door.request_redirect) {
        ("RequestRedirect", Some(redirect)) => Ok(HttpFilter::Redirect(lower_redirect(redirect))),
        ("RequestRedirect", None) => Err(inside.wrong(
            &format!("{place}.requestRedirect"),
            "required for type RequestRedirect, but missing",
        )),
        _ => Ok(HttpFilter::Other(door.kind.into())),
    }
}

fn lower_redirect(door: RedirectDoor) -> Redirect {
    Redirect {
        scheme: door.scheme.map(Name::from),
        hostname: door.hostname.map(Name::from),
        path: door.path.map(|rewrite| {
            match (
                &*rewrite.kind.0,
                rewrite.replace_full_path,
                rewrite.replace_prefix_match,
            ) {
                ("ReplaceFullPath", Some(path), _) => PathRewrite::Full(path.into()),
                ("ReplacePrefixMatch", _, Some(prefix)) => PathRewrite::Prefix(prefix.into()),
                _ => PathRewrite::Other(rewrite.kind.into()),
            }
        }),
        port: door.port.map(Port::number),
        status: door
            .status_code
            .map_or(302, |code| u16::try_from(code.0).unwrap_or(302)),
    }
}
