//! Filters of a rule. One is built: the redirect.
//!
//! Source: Gateway API, `HTTPRouteFilter`, `HTTPRequestRedirectFilter`.

use postern_model::{PathRewrite, Redirect};
use postern_refs::objects::{HttpFilter, PathRewrite as Wanted, Redirect as WantedRedirect};
use postern_refs::{FieldPath, Name};

use crate::matches::{check_path, prefix, shown};
use crate::outcome::{Cause, Outcome, Problem};

/// The redirect of a rule, before the listener's port is known; `Err` where a filter cannot be
/// applied, since requests must not pass as if it were absent.
pub(crate) type Filters = Result<Option<Redirect>, ()>;

/// All filters of a rule.
pub(crate) fn lower(
    filters: &[HttpFilter],
    backends: usize,
    field: &FieldPath,
) -> Outcome<Filters> {
    match try_lower(filters, backends, field) {
        Ok(redirect) => Outcome::clean(Ok(redirect)),
        Err(problem) => Outcome::flawed(Err(()), problem),
    }
}

fn try_lower(
    filters: &[HttpFilter],
    backends: usize,
    field: &FieldPath,
) -> Result<Option<Redirect>, Problem> {
    let mut made = None;
    for (position, filter) in filters.iter().enumerate() {
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
                if made.is_some() || backends > 0 {
                    return Err(Problem::new(
                        Cause::IncompatibleFilters,
                        field,
                        "a rule has one redirect at most, and no backendRefs beside it",
                    ));
                }
                made = Some(redirect(wanted, &field.field("requestRedirect"))?);
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
            Some(PathRewrite::Full(path.clone()))
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
/// if a scheme is asked for; else the listener's. The scheme's own port is left out.
///
/// Source: Gateway API, `HTTPRequestRedirectFilter.port`.
pub(crate) fn resolve_port(
    redirect: &Redirect,
    listener_port: u16,
    listener_tls: bool,
) -> Redirect {
    let own = |scheme: &str| if scheme == "https" { 443 } else { 80 };
    let port = match (redirect.port, redirect.scheme.as_deref()) {
        (Some(port), _) => port,
        (None, Some(scheme)) => own(scheme),
        (None, None) => listener_port,
    };
    let scheme = redirect
        .scheme
        .as_deref()
        .unwrap_or(if listener_tls { "https" } else { "http" });
    Redirect {
        port: (port != own(scheme)).then_some(port),
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
            (make(Some("https"), None), 8080, false, None),
            (make(None, None), 8080, false, Some(8080)),
            (make(None, None), 80, false, None),
            (make(None, None), 443, true, None),
            (make(None, Some(8443)), 443, true, Some(8443)),
            (make(Some("http"), Some(443)), 443, true, Some(443)),
        ];
        for (redirect, port, tls, expected) in cases {
            assert_eq!(
                resolve_port(&redirect, port, tls).port,
                expected,
                "{redirect:?}"
            );
        }
    }

    #[test]
    fn hostile_hosts_and_unknown_filters_are_refused() {
        for host in ["", "a b", "a\r\nLocation: x", "*.a", "-a", "a..b", "%HOST%"] {
            let filter = HttpFilter::Redirect(WantedRedirect {
                hostname: Some(host.into()),
                ..wanted()
            });
            let problem = try_lower(&[filter], 0, &FieldPath::parse("f")).unwrap_err();
            assert_eq!(
                problem.field.to_string(),
                "f[0].requestRedirect.hostname",
                "{host:?}"
            );
        }
        let problem = try_lower(
            &[HttpFilter::Other("CORS".into())],
            0,
            &FieldPath::parse("f"),
        )
        .unwrap_err();
        assert_eq!(
            (problem.cause, problem.field.to_string().as_str()),
            (Cause::UnsupportedValue, "f[0].type")
        );
        let two = [
            HttpFilter::Redirect(wanted()),
            HttpFilter::Redirect(wanted()),
        ];
        assert_eq!(
            try_lower(&two, 0, &FieldPath::default()).unwrap_err().cause,
            Cause::IncompatibleFilters
        );
        assert_eq!(
            try_lower(&two[..1], 1, &FieldPath::default())
                .unwrap_err()
                .cause,
            Cause::IncompatibleFilters
        );
    }
}
