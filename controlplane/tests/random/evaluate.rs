//! What the model means: a plain reading of it, from which the answer to a request follows. It
//! knows the listener's hardening too (`crates/envoy/src/http.rs`), as far as requests of these
//! tests come near it.

use std::collections::BTreeSet;

use postern_model::{
    Action, Backend, Host, Listener, ListenerKind, Match, Origin, PathMatch, PathRewrite, Proxy,
    Redirect, Table, Target, ValueMatch, VirtualHost,
};

/// A request over HTTP/1.1 as it goes over the wire.
#[derive(Clone, Debug)]
pub struct Request {
    /// The port of the Gateway's listener.
    pub port: u16,
    /// The server name, where TLS is spoken.
    pub server_name: Option<String>,
    pub method: String,
    pub target: String,
    /// `Host` headers.
    pub hosts: Vec<String>,
    pub headers: Vec<(String, String)>,
}

/// An answer that is right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// By a backend.
    Backend(String),
    /// A redirect: status, and its parts.
    Redirect(u16, Location),
    /// Any other, by its status.
    Status(u16),
}

/// A `Location`. The scheme's own port stands in it also where it is not written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub scheme: String,
    pub host: String,
    pub port: String,
    pub path: String,
}

/// Which answers are right; several where chance decides.
#[derive(Clone, Debug)]
pub struct Expected {
    pub answers: BTreeSet<Answer>,
    /// What the entry that decides comes from.
    pub origin: Option<Origin>,
}

impl Expected {
    fn status(status: u16) -> Expected {
        Expected {
            answers: [Answer::Status(status)].into(),
            origin: None,
        }
    }
}

/// Methods that Envoy's parser knows, of those that are sent here.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND",
];

/// Headers of these tests that Envoy holds one value of: several are joined by commas. (It prints
/// them all at its start, as `HTTP header map info`.)
const ONE_VALUE: [&str; 3] = ["accept", "authorization", "user-agent"];

/// The answer to a request.
pub fn evaluate(proxy: &Proxy, request: &Request) -> Expected {
    let listener = proxy
        .listeners
        .values()
        .find(|listener| listener.public_port == request.port)
        .expect("requests are sent to listeners");
    let tls = request.server_name.is_some();
    let names_are_good = request
        .headers
        .iter()
        .all(|(name, _)| is_token(name) && !name.contains('_'));
    let values_are_good = request
        .headers
        .iter()
        .all(|(_, value)| !value.chars().any(|c| c.is_ascii_control() && c != '\t'));
    // A line feed ends the request line: what is left of it has no version, or one that is too old.
    if request.target.contains('\n') {
        return Expected {
            answers: [Answer::Status(400), Answer::Status(426)].into(),
            origin: None,
        };
    }
    let target_is_good = request.target.chars().all(|c| c.is_ascii_graphic());
    let method_is_good = METHODS.contains(&&*request.method);
    if !method_is_good || !target_is_good || !names_are_good || !values_are_good {
        return Expected::status(400);
    }
    let (authority, target) = match absolute(&request.target) {
        // Whoever speaks in the clear has no business with https.
        Some(("https", ..)) if !tls => return Expected::status(403),
        Some((_, authority, target)) => (authority.to_owned(), target),
        None => match request.hosts.as_slice() {
            [] => return Expected::status(400),
            hosts => (hosts.join(","), &*request.target),
        },
    };
    if authority.contains([' ', '/', '?', '#']) || !authority.is_ascii() {
        return Expected::status(400);
    }
    // The server as a whole (RFC 9112, section 3.2.4), of which nobody here speaks.
    if request.method == "OPTIONS" && target == "*" {
        return Expected::status(404);
    }
    let Some((path, query)) = canonical(target) else {
        return Expected::status(400);
    };
    let table = table(proxy, listener, request.server_name.as_deref());
    let Some(host) = virtual_host(table, name_of(&authority)) else {
        return Expected::status(404);
    };
    // Several hosts in one request: none of them is the host.
    if authority.contains(',') {
        return Expected::status(400);
    }
    let deciding = host.entries.iter().find(|entry| {
        is_met(
            &entry.matcher,
            &request.method,
            &path,
            query.unwrap_or(""),
            &request.headers,
        )
    });
    let Some(entry) = deciding else {
        return Expected::status(404);
    };
    let answers = match &entry.action {
        Action::Forward(backends) => backends
            .iter()
            .filter(|backend| backend.weight > 0)
            .map(|backend| forwarded(proxy, backend))
            .collect(),
        Action::Fixed(fixed) => [Answer::Status(fixed.status)].into(),
        Action::Redirect(redirect) => {
            let path = rewritten(redirect, &entry.matcher.path, &path);
            let path = match query {
                Some(query) => format!("{path}?{query}"),
                None => path,
            };
            let location = location(redirect, tls, &authority, path);
            [Answer::Redirect(redirect.status, location)].into()
        }
    };
    Expected {
        answers,
        origin: Some(entry.origin.clone()),
    }
}

/// Scheme, authority and the rest of an absolute target (RFC 9112, section 3.2.2).
fn absolute(target: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let end = rest.find('/').unwrap_or(rest.len());
    let path = if end == rest.len() { "/" } else { &rest[end..] };
    Some((scheme, &rest[..end], path))
}

/// A `token` of RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.chars().all(allowed)
}

/// The canonical path and the query, or nothing where the request is refused.
///
/// What need not be encoded is decoded, what must be is encoded, `\` is a slash, dot segments are
/// resolved (RFC 3986, section 5.2.4), and slashes are merged. An encoded slash is refused.
pub fn canonical(target: &str) -> Option<(String, Option<&str>)> {
    let bad = |c: char| !c.is_ascii_graphic() || c == '#';
    if !target.starts_with('/') || target.contains(bad) {
        return None;
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut plain = String::new();
    let mut at = 0;
    while let Some(c) = path[at..].chars().next() {
        at += 1;
        let escaped = path
            .get(at..at + 2)
            .filter(|_| c == '%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (c, escaped) {
            (_, Some(b'/' | b'\\' | 0)) => return None,
            (_, Some(byte)) if is_unreserved(byte) => {
                plain.push(byte.into());
                at += 2;
            }
            ('\\', _) => plain.push('/'),
            ('"' | '<' | '>' | '^' | '`' | '{' | '|' | '}', _) => {
                plain += &format!("%{:02X}", u32::from(c));
            }
            _ => plain.push(c),
        }
    }
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = plain[1..].split('/').collect();
    for (position, segment) in segments.iter().enumerate() {
        let dots = matches!(*segment, "." | "..");
        if *segment == ".." {
            kept.pop();
        }
        if !dots {
            kept.push(segment);
        } else if position + 1 == segments.len() {
            kept.push("");
        }
    }
    Some((merged(&format!("/{}", kept.join("/"))), query))
}

/// With the slashes before the query merged. (Envoy leaves a path of slashes alone as `//`.)
fn merged(target: &str) -> String {
    let (mut path, query) = match target.find('?') {
        Some(at) => (target[..at].to_owned(), &target[at..]),
        None => (target.to_owned(), ""),
    };
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path + query
}

/// RFC 3986, section 2.3.
pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The host of an authority, without its port.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => authority,
    }
}

fn table<'a>(proxy: &'a Proxy, listener: &Listener, server_name: Option<&str>) -> &'a Table {
    let id = match (&listener.kind, server_name) {
        (ListenerKind::Http { table }, None) => table,
        (ListenerKind::Https { chains }, Some(name)) => {
            let taking = chains
                .iter()
                .filter(|chain| takes(&chain.server_name, name));
            let best = taking.max_by_key(|chain| rank(&chain.server_name));
            &best
                .expect("requests have a server name of a listener")
                .table
        }
        (kind, name) => panic!("{name:?} to {kind:?}"),
    };
    &proxy.tables[id]
}

fn virtual_host<'a>(table: &'a Table, name: &str) -> Option<&'a VirtualHost> {
    let taking = table.hosts.iter().filter(|host| takes(&host.host, name));
    taking
        .max_by_key(|host| rank(&host.host))
        .map(|host| &**host)
}

fn takes(host: &Host, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match host {
        Host::Any => true,
        Host::Exact(exact) => name == **exact,
        Host::Wildcard(suffix) => name
            .strip_suffix(&**suffix)
            .is_some_and(|before| before.len() > 1 && before.ends_with('.')),
    }
}

/// Exact before wildcard, long before short, any last.
fn rank(host: &Host) -> (u8, usize) {
    match host {
        Host::Any => (0, 0),
        Host::Wildcard(suffix) => (1, suffix.len()),
        Host::Exact(_) => (2, 0),
    }
}

fn is_met(
    wanted: &Match,
    method: &str,
    path: &str,
    query: &str,
    headers: &[(String, String)],
) -> bool {
    let path_met = match &wanted.path {
        PathMatch::Exact(exact) => path == &**exact,
        PathMatch::Prefix(prefix) if &**prefix == "/" => true,
        PathMatch::Prefix(prefix) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    };
    let method_met = wanted
        .method
        .as_deref()
        .is_none_or(|wanted| wanted == method);
    let headers_met = wanted.headers.iter().all(|wanted| {
        let ValueMatch::Exact(value) = &wanted.value;
        let mut found: Vec<String> = headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(&wanted.name))
            .map(|(_, value)| value.trim_matches([' ', '\t']).to_owned())
            .collect();
        if ONE_VALUE.contains(&&*wanted.name) && !found.is_empty() {
            found = vec![found.join(",")];
        }
        found.iter().any(|found| **found == **value)
    });
    let parameters = || {
        query
            .split('&')
            .map(|one| one.split_once('=').unwrap_or((one, "")))
    };
    let query_met = wanted.query.iter().all(|wanted| {
        let ValueMatch::Exact(value) = &wanted.value;
        let first = parameters().find(|(name, _)| *name == &*wanted.name);
        first.is_some_and(|(_, found)| found == &**value)
    });
    path_met && method_met && headers_met && query_met
}

fn forwarded(proxy: &Proxy, backend: &Backend) -> Answer {
    let Target::Cluster(id) = &backend.target else {
        return Answer::Status(500);
    };
    let endpoints = &proxy.endpoints[id].endpoints;
    if endpoints.is_empty() {
        return Answer::Status(503);
    }
    // The name of the Service is that of the backend.
    let service = id.0.split('/').nth(1).expect("namespace/Service/port");
    Answer::Backend(service.to_owned())
}

/// Gateway API, `HTTPPathModifier`.
fn rewritten(redirect: &Redirect, matched: &PathMatch, path: &str) -> String {
    let made = match (&redirect.path, matched) {
        (None, _) => path.to_owned(),
        (Some(PathRewrite::Full(full)), _) => full.to_string(),
        (Some(PathRewrite::Prefix(to)), PathMatch::Prefix(prefix)) => {
            let rest = path.strip_prefix(prefix.trim_end_matches('/'));
            format!("{}{}", to.trim_end_matches('/'), rest.expect("it matched"))
        }
        (Some(PathRewrite::Prefix(_)), PathMatch::Exact(_)) => {
            panic!("no prefix was matched: {redirect:?}")
        }
    };
    if made.is_empty() {
        "/".to_owned()
    } else {
        made
    }
}

/// Gateway API, `HTTPRequestRedirectFilter`: a port that is not given is that of the scheme that
/// is, and stays as in the request where none is.
fn location(redirect: &Redirect, tls: bool, authority: &str, path: String) -> Location {
    let own = |scheme: &str| if scheme == "https" { "443" } else { "80" };
    let kept = if tls { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(kept);
    let name = name_of(authority);
    let asked = authority
        .strip_prefix(name)
        .and_then(|port| port.strip_prefix(':'));
    let port = match (redirect.port, &redirect.scheme, &redirect.host) {
        (Some(port), ..) => port.to_string(),
        (None, Some(_), _) | (None, None, Some(_)) => own(scheme).to_owned(),
        (None, None, None) => asked.unwrap_or(own(scheme)).to_owned(),
    };
    Location {
        scheme: scheme.to_owned(),
        host: redirect
            .host
            .as_deref()
            .unwrap_or(name)
            .to_ascii_lowercase(),
        port,
        path,
    }
}

impl Location {
    /// Takes a `Location` apart.
    pub fn parse(text: &str) -> Option<Location> {
        let (scheme, rest) = text.split_once("://")?;
        let start = rest.find('/')?;
        let (authority, path) = rest.split_at(start);
        let name = name_of(authority);
        let port = authority.strip_prefix(name)?.strip_prefix(':');
        let own = if scheme == "https" { "443" } else { "80" };
        Some(Location {
            scheme: scheme.to_owned(),
            host: name.to_ascii_lowercase(),
            port: port.unwrap_or(own).to_owned(),
            path: merged(path),
        })
    }
}

#[test]
fn canonical_paths_are_those_that_envoy_makes() {
    // As a real Envoy answered.
    for (target, expected) in [
        ("/%61%41%30%2d%2e%5f%7e", "/aA0-._~"),
        (
            "/%21%24%26%27%28%29%2a%2b%2c%3b%3d%3a%40",
            "/%21%24%26%27%28%29%2a%2b%2c%3b%3d%3a%40",
        ),
        ("/%zz%", "/%zz%"),
        ("/a\\b", "/a/b"),
        ("/a<b>`c^{d|e}\"", "/a%3Cb%3E%60c%5E%7Bd%7Ce%7D%22"),
        ("//a///b//", "/a/b/"),
        ("/a/../b/./c", "/b/c"),
        ("/../..", "/"),
        ("/a/.", "/a/"),
        ("/a/.%2E/b", "/b"),
        ("/a/...", "/a/..."),
        ("/a//../b", "/a/b"),
        ("/a/.b/..", "/a/"),
        ("/x%2541", "/x%2541"),
    ] {
        let made = canonical(target).map(|(path, _)| path);
        assert_eq!(made.as_deref(), Some(expected), "{target}");
    }
    for target in [
        "/%2F", "/a%5cb", "/a#b", "/a?b#c", "/\u{e9}", "/a b", "*", "a", "", "/%00",
    ] {
        assert_eq!(canonical(target), None, "{target}");
    }
}
