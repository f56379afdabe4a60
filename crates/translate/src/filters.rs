//! Filters of a rule. One is built: the redirect.
//!
//! Source: Gateway API, `HTTPRouteFilter`, `HTTPRequestRedirectFilter`.

use postern_model::{PathRewrite, Redirect};
use postern_refs::objects::{
    HttpFilter, HttpMatch, HttpRule, PathRewrite as Wanted, PathType, Redirect as WantedRedirect,
};
use postern_refs::{FieldPath, Name};

use crate::matches::{check_path, prefix, shown};
use crate::outcome::{Cause, Outcome, Problem};

/// The redirect of a rule, before the listener's port is known; `Err` where a filter cannot be
/// applied, since requests must not pass as if it were absent.
pub(crate) type Filters = Result<Option<Redirect>, ()>;

/// All filters of a rule.
pub(crate) fn lower(rule: &HttpRule, field: &FieldPath) -> Outcome<Filters> {
    match try_lower(rule, field) {
        Ok(redirect) => Outcome::clean(Ok(redirect)),
        Err(problem) => Outcome::flawed(Err(()), problem),
    }
}

fn try_lower(rule: &HttpRule, field: &FieldPath) -> Result<Option<Redirect>, Problem> {
    let mut made = None;
    for (position, filter) in rule.filters.iter().enumerate() {
        let field = field.index(position);
        match filter {
            HttpFilter::Other(kind) => {
                return Err(Problem::new(
                    Cause::UnsupportedValue,
                    field.field("type"),
                    format!(
                        "{} is not built yet; use RequestRedirect or remove the filter",
                        shown(kind)
                    ),
                ));
            }
            HttpFilter::Redirect(wanted) => {
                if made.is_some() || !rule.backends.is_empty() {
                    return Err(Problem::new(
                        Cause::IncompatibleFilters,
                        field,
                        "a rule has one redirect at most, and no backendRefs beside it",
                    ));
                }
                let field = field.field("requestRedirect");
                let redirect = redirect(wanted, &field)?;
                let by_prefix = |wanted: &HttpMatch| !matches!(wanted.path_type, PathType::Exact);
                if matches!(redirect.path, Some(PathRewrite::Prefix(_)))
                    && !rule.matches.iter().all(by_prefix)
                {
                    return Err(Problem::new(
                        Cause::InvalidValue,
                        field.field("path").field("type"),
                        "ReplacePrefixMatch goes with matches of PathPrefix only; use those, or ReplaceFullPath",
                    ));
                }
                made = Some(redirect);
            }
        }
    }
    Ok(made)
}

fn redirect(wanted: &WantedRedirect, field: &FieldPath) -> Result<Redirect, Problem> {
    let invalid =
        |name: &str, message: String| Problem::new(Cause::InvalidValue, field.field(name), message);
    if let Some(scheme) = &wanted.scheme
        && !matches!(&**scheme, "http" | "https")
    {
        return Err(invalid(
            "scheme",
            format!("{} is neither http nor https", shown(scheme)),
        ));
    }
    if let Some(host) = &wanted.hostname
        && !is_precise_hostname(host)
    {
        return Err(invalid(
            "hostname",
            format!("{} is no DNS name", shown(host)),
        ));
    }
    if !matches!(wanted.status, 301 | 302 | 303 | 307 | 308) {
        return Err(invalid(
            "statusCode",
            format!("{} is none of 301, 302, 303, 307, 308", wanted.status),
        ));
    }
    let check = |path: &Name, name: &str| {
        if path.is_empty() {
            return Ok(());
        }
        check_path(path).map_err(|reason| {
            Problem::new(Cause::InvalidValue, field.field("path").field(name), reason)
        })
    };
    let path = match &wanted.path {
        None => None,
        Some(Wanted::Full(path)) => {
            check(path, "replaceFullPath")?;
            // An empty path is `/` (RFC 3986, section 6.2.3).
            let path = if path.is_empty() {
                "/".into()
            } else {
                path.clone()
            };
            Some(PathRewrite::Full(path))
        }
        Some(Wanted::Prefix(path)) => {
            check(path, "replacePrefixMatch")?;
            Some(PathRewrite::Prefix(prefix(path)))
        }
        Some(Wanted::Other(kind)) => {
            return Err(Problem::new(
                Cause::UnsupportedValue,
                field.field("path").field("type"),
                format!(
                    "{} is not supported, or its value is missing; use ReplaceFullPath or ReplacePrefixMatch",
                    shown(kind)
                ),
            ));
        }
    };
    Ok(Redirect {
        scheme: wanted.scheme.clone(),
        host: wanted
            .hostname
            .as_ref()
            .map(|host| host.to_ascii_lowercase().into()),
        port: wanted.port,
        path,
        status: wanted.status,
    })
}

/// The port in the `Location` of a redirect at a listener: the one asked for; else the scheme's own
/// if a scheme is asked for; else the listener's, left out where it is the scheme's own: the client
/// may know another.
///
/// Source: Gateway API, `HTTPRequestRedirectFilter.port`.
pub(crate) fn resolve_port(
    redirect: &Redirect,
    listener_port: u16,
    listener_tls: bool,
) -> Redirect {
    let own = |scheme: &str| if scheme == "https" { 443 } else { 80 };
    let kept = if listener_tls { "https" } else { "http" };
    let (scheme, port) = match (redirect.port, redirect.scheme.as_deref()) {
        (Some(port), Some(_)) => (None, Some(port)),
        (None, Some(scheme)) => (None, Some(own(scheme))),
        // With its scheme, the port need not show, and the client's goes away.
        (Some(port), None) if port == own(kept) => (Some(kept.into()), Some(port)),
        (Some(port), None) => (None, Some(port)),
        (None, None) => {
            let port = Some(listener_port);
            (None, port.filter(|port| *port != own(kept)))
        }
    };
    Redirect {
        scheme: scheme.or_else(|| redirect.scheme.clone()),
        port,
        ..redirect.clone()
    }
}

/// Whether this is a DNS name without a wildcard (Gateway API, `PreciseHostname`).
pub(crate) fn is_precise_hostname(host: &str) -> bool {
    host.len() <= 253
        && !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-')
        })
}

/// Whether this is a DNS name, perhaps with `*.` before it (Gateway API, `Hostname`).
pub(crate) fn is_hostname(host: &str) -> bool {
    is_precise_hostname(host.strip_prefix("*.").unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use postern_refs::objects::BackendRef;

    use super::*;

    fn wanted() -> WantedRedirect {
        WantedRedirect {
            scheme: None,
            hostname: None,
            path: None,
            port: None,
            status: 302,
        }
    }

    #[test]
    fn the_port_follows_the_specification() {
        let make = |scheme: Option<&str>, port| Redirect {
            scheme: scheme.map(Into::into),
            host: None,
            port,
            path: None,
            status: 302,
        };
        let cases = [
            // The client's own port goes away with its scheme.
            (make(Some("https"), None), 8080, false, Some(443)),
            (make(Some("http"), None), 443, true, Some(80)),
            (make(Some("https"), Some(443)), 80, false, Some(443)),
            (make(None, None), 8080, false, Some(8080)),
            (make(None, None), 80, false, None),
            (make(None, None), 443, true, None),
            (make(None, Some(8443)), 443, true, Some(8443)),
            (make(None, Some(443)), 8443, true, Some(443)),
            (make(None, Some(80)), 8443, true, Some(80)),
            (make(Some("http"), Some(443)), 443, true, Some(443)),
        ];
        for (redirect, port, tls, expected) in cases {
            assert_eq!(
                resolve_port(&redirect, port, tls).port,
                expected,
                "{redirect:?}"
            );
        }
        let asked = resolve_port(&make(None, Some(80)), 80, false);
        assert_eq!(asked.scheme.as_deref(), Some("http"));
        let kept = resolve_port(&make(None, None), 80, false);
        assert_eq!(kept.scheme, None);
    }

    fn rule(filters: Vec<HttpFilter>) -> HttpRule {
        HttpRule {
            matches: Vec::new(),
            filters,
            backends: Vec::new(),
        }
    }

    fn refusal(rule: &HttpRule) -> (Cause, String) {
        let problem = try_lower(rule, &FieldPath::parse("f")).unwrap_err();
        (problem.cause, problem.field.to_string())
    }

    #[test]
    fn hostile_hosts_and_unknown_filters_are_refused() {
        for host in ["", "a b", "a\r\nLocation: x", "*.a", "-a", "a..b", "%HOST%"] {
            let filter = HttpFilter::Redirect(WantedRedirect {
                hostname: Some(host.into()),
                ..wanted()
            });
            assert_eq!(
                refusal(&rule(vec![filter])).1,
                "f[0].requestRedirect.hostname",
                "{host:?}"
            );
        }
        assert_eq!(
            refusal(&rule(vec![HttpFilter::Other("CORS".into())])),
            (Cause::UnsupportedValue, "f[0].type".into())
        );
        let one = || HttpFilter::Redirect(wanted());
        let twice = rule(vec![one(), one()]);
        assert_eq!(refusal(&twice).0, Cause::IncompatibleFilters);
        let with_backend = HttpRule {
            backends: vec![BackendRef {
                group: "".into(),
                kind: "Service".into(),
                namespace: None,
                name: "a".into(),
                port: Some(80),
                weight: 1,
            }],
            ..rule(vec![one()])
        };
        assert_eq!(refusal(&with_backend).0, Cause::IncompatibleFilters);
    }

    #[test]
    fn a_prefix_is_replaced_only_where_prefixes_are_matched() {
        let matching = |path_type| HttpMatch {
            path_type,
            path: "/a".into(),
            headers: vec![],
            query: vec![],
            method: None,
        };
        let replace = |path_types: Vec<PathType>| HttpRule {
            matches: path_types.into_iter().map(matching).collect(),
            ..rule(vec![HttpFilter::Redirect(WantedRedirect {
                path: Some(Wanted::Prefix("/b".into())),
                ..wanted()
            })])
        };
        assert_eq!(
            refusal(&replace(vec![PathType::Prefix, PathType::Exact])),
            (Cause::InvalidValue, "f[0].requestRedirect.path.type".into())
        );
        let good = try_lower(&replace(vec![PathType::Prefix]), &FieldPath::default());
        assert_eq!(
            good.unwrap().unwrap().path,
            Some(PathRewrite::Prefix("/b".into()))
        );
    }

    #[test]
    fn an_empty_full_path_is_the_root() {
        let filter = HttpFilter::Redirect(WantedRedirect {
            path: Some(Wanted::Full("".into())),
            ..wanted()
        });
        let made = try_lower(&rule(vec![filter]), &FieldPath::default()).unwrap();
        assert_eq!(made.unwrap().path, Some(PathRewrite::Full("/".into())));
    }
}
