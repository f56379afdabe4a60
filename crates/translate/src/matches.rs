//! Matches of a rule: path, headers, query parameters, method.
//!
//! Source: Gateway API, `HTTPRouteMatch`. A match that cannot be made is left out (it matches
//! nothing): it is never widened.

use postern_model::{HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch};
use postern_refs::objects::{HttpMatch, MatchKind, PathType, ValueMatch as Wanted};
use postern_refs::{FieldPath, Name};

use crate::outcome::{Cause, Outcome, Problem};

/// Values longer than this are refused (the API's own limit is 4,096 for headers, 1,024 for paths).
const VALUE_LIMIT: usize = 4_096;

/// One match; `None` if it cannot be made.
pub(crate) fn lower(wanted: &HttpMatch, field: &FieldPath) -> Outcome<Option<Match>> {
    match try_lower(wanted, field) {
        Ok(made) => Outcome::clean(Some(made)),
        Err(problem) => Outcome::flawed(None, problem),
    }
}

fn try_lower(wanted: &HttpMatch, field: &FieldPath) -> Result<Match, Problem> {
    Ok(Match {
        path: path(wanted, &field.field("path"))?,
        method: wanted
            .method
            .as_ref()
            .map(|name| method(name, &field.field("method")))
            .transpose()?,
        headers: headers(&wanted.headers, &field.field("headers"))?,
        query: query(&wanted.query, &field.field("queryParams"))?,
    })
}

fn path(wanted: &HttpMatch, field: &FieldPath) -> Result<PathMatch, Problem> {
    let value = &wanted.path;
    if let PathType::Other(kind) = &wanted.path_type {
        return Err(Problem::new(
            Cause::UnsupportedValue,
            field.field("type"),
            format!("{} is not built yet; use Exact or PathPrefix", shown(kind)),
        ));
    }
    check_path(value)
        .and_then(|()| check_escapes(value))
        .map_err(|reason| Problem::new(Cause::InvalidValue, field.field("value"), reason))?;
    Ok(match wanted.path_type {
        PathType::Exact => PathMatch::Exact(value.clone()),
        PathType::Prefix | PathType::Other(_) => PathMatch::Prefix(prefix(value)),
    })
}

/// A prefix without its trailing slash: `/foo/` and `/foo` mean the same (Gateway API,
/// `PathMatchPathPrefix`).
pub(crate) fn prefix(value: &Name) -> Name {
    match value.strip_suffix('/') {
        Some("") | None => value.clone(),
        Some(rest) => rest.into(),
    }
}

/// Why a path can never be that of a request: requests are normalised before they are matched, so
/// a rule for another spelling would only look like protection.
pub(crate) fn check_path(value: &str) -> Result<(), String> {
    if !value.starts_with('/') {
        return Err(format!("{} must start with '/'", shown(value)));
    }
    if value.len() > 1_024 {
        return Err("it is longer than 1,024 characters; shorten it".into());
    }
    let odd = |c: char| {
        !c.is_ascii_graphic()
            || matches!(
                c,
                '?' | '#' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'
            )
    };
    if let Some(c) = value.chars().find(|c| odd(*c)) {
        return Err(format!(
            "it holds {c:?}, which no path holds; percent-encode it or remove it"
        ));
    }
    let lower = value.to_ascii_lowercase();
    if lower.contains("//") || lower.contains("%2f") || lower.contains("%5c") {
        return Err("it holds an empty segment or an encoded slash; requests are matched in their normalised form".into());
    }
    if lower
        .split('/')
        .any(|part| matches!(part, "." | ".." | "%2e" | "%2e%2e" | ".%2e" | "%2e."))
    {
        return Err(
            "it holds a '.' or '..' segment; requests are matched in their normalised form".into(),
        );
    }
    Ok(())
}

/// Why a path holds an escape that no normalised request holds: what need not be encoded (RFC 3986,
/// section 2.3) is decoded before requests are matched, and `%00` is refused.
fn check_escapes(value: &str) -> Result<(), String> {
    for (start, _) in value.match_indices('%') {
        let digits = value.get(start + 1..start + 3);
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            continue;
        };
        if byte == 0 {
            return Err("it holds %00, which no request may hold".into());
        }
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            return Err(format!(
                "it holds {}, and requests are matched in their normalised form; write {:?} instead",
                &value[start..start + 3],
                char::from(byte)
            ));
        }
    }
    Ok(())
}

fn method(name: &Name, field: &FieldPath) -> Result<Name, Problem> {
    const METHODS: [&str; 8] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH",
    ];
    if METHODS.contains(&&**name) {
        Ok(name.clone())
    } else {
        Err(Problem::new(
            Cause::UnsupportedValue,
            field.clone(),
            format!(
                "{} is not supported; use one of {}",
                shown(name),
                METHODS.join(", ")
            ),
        ))
    }
}

fn headers(wanted: &[Wanted], field: &FieldPath) -> Result<Vec<HeaderMatch>, Problem> {
    let mut made: Vec<HeaderMatch> = Vec::with_capacity(wanted.len());
    for (position, header) in wanted.iter().enumerate() {
        let field = field.index(position);
        let name = header_name(&header.name)
            .map_err(|reason| Problem::new(Cause::InvalidValue, field.field("name"), reason))?;
        if &*name == "host" {
            return Err(Problem::new(
                Cause::UnsupportedValue,
                field.field("name"),
                "a route matches hosts by spec.hostnames; name the host there",
            ));
        }
        let value = value(header, &field)?;
        let ValueMatch::Exact(text) = &value;
        if text.trim_matches(' ') != &**text {
            return Err(Problem::new(
                Cause::InvalidValue,
                field.field("value"),
                "it begins or ends with a space, and values are compared without; remove it",
            ));
        }
        // The first of several entries for one header counts (Gateway API, `HTTPHeaderMatch.name`).
        if !made.iter().any(|other| other.name == name) {
            made.push(HeaderMatch { name, value });
        }
    }
    Ok(made)
}

fn query(wanted: &[Wanted], field: &FieldPath) -> Result<Vec<QueryMatch>, Problem> {
    let mut made: Vec<QueryMatch> = Vec::with_capacity(wanted.len());
    for (position, parameter) in wanted.iter().enumerate() {
        let field = field.index(position);
        header_name(&parameter.name)
            .and_then(|_| check_query(&parameter.name))
            .map_err(|reason| Problem::new(Cause::InvalidValue, field.field("name"), reason))?;
        let value = value(parameter, &field)?;
        check_query(&parameter.value)
            .map_err(|reason| Problem::new(Cause::InvalidValue, field.field("value"), reason))?;
        if !made.iter().any(|other| other.name == parameter.name) {
            made.push(QueryMatch {
                name: parameter.name.clone(),
                value,
            });
        }
    }
    Ok(made)
}

/// Why a name or value can never stand in a query: it is compared as it stands there, not decoded.
fn check_query(text: &str) -> Result<(), String> {
    let odd = |c: &char| !c.is_ascii_graphic() || matches!(c, '#' | '&');
    match text.chars().find(odd) {
        None => Ok(()),
        Some(c) => Err(format!(
            "it holds {c:?}, which no query holds; percent-encode it, as clients do"
        )),
    }
}

fn value(wanted: &Wanted, field: &FieldPath) -> Result<ValueMatch, Problem> {
    if let MatchKind::Other(kind) = &wanted.kind {
        return Err(Problem::new(
            Cause::UnsupportedValue,
            field.field("type"),
            format!("{} is not built yet; use Exact", shown(kind)),
        ));
    }
    let text = &wanted.value;
    if text.is_empty() || text.len() > VALUE_LIMIT || text.chars().any(char::is_control) {
        return Err(Problem::new(
            Cause::InvalidValue,
            field.field("value"),
            format!("it must have 1 to {VALUE_LIMIT} characters and no control characters"),
        ));
    }
    Ok(ValueMatch::Exact(text.clone()))
}

/// A header's name in lower case, if it is a token (RFC 9110, section 5.6.2).
pub(crate) fn header_name(name: &str) -> Result<Name, String> {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if !name.is_empty() && name.len() <= 256 && name.bytes().all(token) {
        Ok(name.to_ascii_lowercase().into())
    } else {
        Err(format!(
            "{} is no header or parameter name (a token of RFC 9110)",
            shown(name)
        ))
    }
}

/// Text of a tenant in a message: quoted, escaped, short.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(path: &str) -> HttpMatch {
        HttpMatch {
            path_type: PathType::Prefix,
            path: path.into(),
            headers: vec![],
            query: vec![],
            method: None,
        }
    }

    fn refusal(wanted: &HttpMatch) -> (Cause, String) {
        let problem = try_lower(wanted, &FieldPath::parse("m")).unwrap_err();
        (problem.cause, problem.field.to_string())
    }

    #[test]
    fn a_prefix_loses_its_trailing_slash_but_the_root_keeps_it() {
        for (path, expected) in [("/foo/", "/foo"), ("/foo", "/foo"), ("/", "/")] {
            let made = try_lower(&plain(path), &FieldPath::default()).unwrap();
            assert_eq!(made.path, PathMatch::Prefix(expected.into()));
        }
    }

    #[test]
    fn paths_that_no_normalised_request_has_are_refused() {
        for path in [
            "",
            "foo",
            "/a//b",
            "/a/../b",
            "/%2e%2e/b",
            "/a%2Fb",
            "/a\\b",
            "/a\nb",
            "/a?b",
            "/ü",
            "/a\0",
            "/\"",
            "/}",
        ] {
            assert_eq!(
                refusal(&plain(path)),
                (Cause::InvalidValue, "m.path.value".into()),
                "{path:?}"
            );
        }
    }

    #[test]
    fn escapes_that_no_normalised_request_has_are_refused() {
        for path in ["/%61", "/fo%6F", "/a/%7Eb", "/%00", "/%%30", "/%2dx"] {
            assert_eq!(
                refusal(&plain(path)),
                (Cause::InvalidValue, "m.path.value".into()),
                "{path:?}"
            );
        }
        for path in ["/%20", "/%C3%A9", "/%25", "/%zz", "/a%", "/%2"] {
            assert!(try_lower(&plain(path), &FieldPath::default()).is_ok());
        }
    }

    #[test]
    fn values_that_no_request_has_are_refused() {
        let pair = |name: &str, value: &str| Wanted {
            kind: MatchKind::Exact,
            name: name.into(),
            value: value.into(),
        };
        for (name, value, field) in [
            ("q", "a b", "value"),
            ("q", "a&b", "value"),
            ("q", "#", "value"),
            ("q", "\u{e9}", "value"),
            ("a&b", "1", "name"),
            ("#", "1", "name"),
        ] {
            let mut wanted = plain("/");
            wanted.query = vec![pair(name, value)];
            assert_eq!(
                refusal(&wanted),
                (Cause::InvalidValue, format!("m.queryParams[0].{field}")),
                "{name:?} {value:?}"
            );
        }
        for value in [" a", "a "] {
            let mut wanted = plain("/");
            wanted.headers = vec![pair("x-a", value)];
            assert_eq!(
                refusal(&wanted),
                (Cause::InvalidValue, "m.headers[0].value".into())
            );
        }
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let mut wanted = plain("/");
        wanted.path_type = PathType::Other("RegularExpression".into());
        assert_eq!(
            refusal(&wanted),
            (Cause::UnsupportedValue, "m.path.type".into())
        );
        let mut wanted = plain("/");
        wanted.method = Some("CONNECT".into());
        assert_eq!(
            refusal(&wanted),
            (Cause::UnsupportedValue, "m.method".into())
        );
        let mut wanted = plain("/");
        wanted.headers = vec![Wanted {
            kind: MatchKind::Other("RegularExpression".into()),
            name: "a".into(),
            value: ".*".into(),
        }];
        assert_eq!(
            refusal(&wanted),
            (Cause::UnsupportedValue, "m.headers[0].type".into())
        );
    }

    #[test]
    fn hostile_names_and_values_are_refused() {
        for name in ["", "a b", "a\r\nb", ":authority", "ü", "a\0"] {
            let mut wanted = plain("/");
            wanted.headers = vec![Wanted {
                kind: MatchKind::Exact,
                name: name.into(),
                value: "x".into(),
            }];
            assert_eq!(
                refusal(&wanted),
                (Cause::InvalidValue, "m.headers[0].name".into()),
                "{name:?}"
            );
        }
        let mut wanted = plain("/");
        wanted.query = vec![Wanted {
            kind: MatchKind::Exact,
            name: "q".into(),
            value: "a\nb".into(),
        }];
        assert_eq!(
            refusal(&wanted),
            (Cause::InvalidValue, "m.queryParams[0].value".into())
        );
    }

    #[test]
    fn the_first_of_several_entries_for_one_header_counts() {
        let mut wanted = plain("/");
        wanted.headers = ["1", "2"]
            .iter()
            .zip(["X-A", "x-a"])
            .map(|(value, name)| Wanted {
                kind: MatchKind::Exact,
                name: name.into(),
                value: (*value).into(),
            })
            .collect();
        let made = try_lower(&wanted, &FieldPath::default()).unwrap();
        assert_eq!(
            made.headers,
            [HeaderMatch {
                name: "x-a".into(),
                value: ValueMatch::Exact("1".into())
            }]
        );
    }
}
