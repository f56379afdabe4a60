//! A redirect: the Gateway API's `HTTPRequestRedirectFilter` in Envoy's words.
//!
//! Envoy cannot say all of it in one route, so an entry may become two, whose matches exclude each
//! other. No regular expression is needed for that: nothing to escape, and no program size limit
//! that a tenant's long path could pass.

use envoy_types::pb::envoy::config::route::v3 as rt;
use postern_model::{Host, Match, PathMatch, PathRewrite, Redirect};
use rt::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
use rt::route_match::PathSpecifier;

use crate::route::{contains, matching, route, without_slash};

/// How the path of a redirect is made, for the requests of one path match.
struct PathForm {
    /// Instead of the entry's own path match.
    only: Option<PathSpecifier>,
    /// What becomes of the path; the query stays.
    rewrite: Option<PathRewriteSpecifier>,
}

/// How host and port of a redirect are made.
struct HostForm {
    /// Only for requests whose `Host` has a port, or has none.
    only: Option<rt::HeaderMatcher>,
    host: String,
    /// 0: as in the host.
    port: u32,
}

/// The routes of a redirect, which was checked before. `host` is the virtual host's.
pub(crate) fn routes(conditions: &Match, redirect: &Redirect, host: &Host) -> Vec<rt::Route> {
    let hosts = host_forms(redirect, host);
    path_forms(&conditions.path, redirect.path.as_ref())
        .iter()
        .flat_map(|path| hosts.iter().map(move |host| (path, host)))
        .map(|(path, host)| {
            let mut matching = matching(conditions);
            if let Some(only) = &path.only {
                matching.path_specifier = Some(only.clone());
            }
            matching.headers.extend(host.only.clone());
            route(matching, action(redirect, path, host))
        })
        .collect()
}

fn action(redirect: &Redirect, path: &PathForm, host: &HostForm) -> rt::route::Action {
    let code = match redirect.status {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    rt::route::Action::Redirect(rt::RedirectAction {
        scheme_rewrite_specifier: redirect
            .scheme
            .as_ref()
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_string())),
        host_redirect: host.host.clone(),
        port_redirect: host.port,
        path_rewrite_specifier: path.rewrite.clone(),
        response_code: code as i32,
        ..Default::default()
    })
}

/// The Gateway API's table for `ReplacePrefixMatch`, with trailing slashes of prefix and
/// replacement taken away (they change nothing, says the table):
///
/// | prefix | replacement | `/foo` | `/foo/` | `/foo/bar` |
/// | --- | --- | --- | --- | --- |
/// | `/foo` | `/xyz` | `/xyz` | `/xyz/` | `/xyz/bar` |
/// | `/foo` | empty | `/` | `/` | `/bar` |
/// | empty | `/xyz` | `/xyz/foo` | `/xyz/foo/` | `/xyz/foo/bar` |
/// | empty | empty | `/foo` | `/foo/` | `/foo/bar` |
///
/// Source: `HTTPPathModifier.replacePrefixMatch`.
fn path_forms(path: &PathMatch, rewrite: Option<&PathRewrite>) -> Vec<PathForm> {
    let as_matched = |rewrite| {
        vec![PathForm {
            only: None,
            rewrite,
        }]
    };
    let replace = |prefix: String| Some(PathRewriteSpecifier::PrefixRewrite(prefix));
    let (prefix, replacement) = match (path, rewrite) {
        (_, None) => return as_matched(None),
        (_, Some(PathRewrite::Full(to))) => {
            return as_matched(Some(PathRewriteSpecifier::PathRedirect(to.to_string())));
        }
        (PathMatch::Prefix(prefix) | PathMatch::Exact(prefix), Some(PathRewrite::Prefix(to))) => {
            (without_slash(prefix), without_slash(to))
        }
    };
    match (prefix, replacement) {
        ("", "") => as_matched(None),
        // Envoy takes away the `/` that it matched.
        ("", replacement) => as_matched(replace(format!("{replacement}/"))),
        // `/foo` alone has nothing left, `/foo/bar` must lose the slash with the prefix.
        (prefix, "") => vec![
            PathForm {
                only: Some(PathSpecifier::Path(prefix.to_owned())),
                rewrite: Some(PathRewriteSpecifier::PathRedirect("/".to_owned())),
            },
            PathForm {
                only: Some(PathSpecifier::Prefix(format!("{prefix}/"))),
                rewrite: replace("/".to_owned()),
            },
        ],
        (_, replacement) => as_matched(replace(replacement.to_owned())),
    }
}

/// Host and port. A port that is the scheme's own does not show in `Location` (Gateway API,
/// `HTTPRequestRedirectFilter.port`: "SHOULD NOT"), and one that the client used goes away. Envoy
/// can do both at once only where it is told the host too: so an exact virtual host names itself,
/// and elsewhere requests without a port in `Host` are told apart from those with one.
fn host_forms(redirect: &Redirect, host: &Host) -> Vec<HostForm> {
    let form = |host: &str, port| HostForm {
        only: None,
        host: host.to_owned(),
        port,
    };
    let Redirect {
        scheme,
        host: wanted,
        port,
        path: _,
        status: _,
    } = redirect;
    let wanted = wanted.as_deref().unwrap_or("");
    let Some(port) = *port else {
        return vec![form(wanted, 0)];
    };
    let own_port = matches!(
        (scheme.as_deref(), port),
        (Some("http"), 80) | (Some("https"), 443)
    );
    let port = u32::from(port);
    match host {
        _ if !own_port => vec![form(wanted, port)],
        _ if !wanted.is_empty() => vec![form(wanted, 0)],
        Host::Exact(name) => vec![form(name, 0)],
        Host::Wildcard(_) | Host::Any => vec![
            HostForm {
                only: Some(host_has_port(true)),
                ..form("", port)
            },
            HostForm {
                only: Some(host_has_port(false)),
                ..form("", 0)
            },
        ],
    }
}

fn host_has_port(wanted: bool) -> rt::HeaderMatcher {
    use rt::header_matcher::HeaderMatchSpecifier;
    rt::HeaderMatcher {
        name: ":authority".to_owned(),
        invert_match: !wanted,
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(contains(":"))),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
