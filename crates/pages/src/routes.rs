//! The page `routes`: who serves which host and path, in the order in which Envoy looks, and why
//! others do not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use postern_model::{
    Action, Backend, Host, Match, PathMatch, PathRewrite, Proxy, Redirect, RouteEntry, Target,
    ValueMatch,
};
use serde::Serialize;

use crate::facts::Facts;
use crate::find::{behind, problems};
use crate::problem::Problem;
use crate::read::{Gateway, Id, World};
use crate::serving::{Serving, ready, service_of, serving};
use crate::status::{Unknown, unknown};

/// Who serves what.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutesPage {
    /// Whether every route serves as it is written, as far as is known.
    pub ok: bool,
    /// The namespace.
    pub namespace: Option<String>,
    /// What was asked for; null for everything.
    pub asked: Option<Asked>,
    /// The entries: for each Gateway, port and host in the order in which Envoy looks.
    pub entries: Vec<Entry>,
    /// Why Envoys may still hold what was before, as the reason of a problem; null if they do not.
    pub behind: Option<&'static str>,
    /// What keeps routes from serving.
    pub problems: Vec<Problem>,
    /// What is not known.
    pub unknown: Vec<Unknown>,
}

/// A host, and maybe a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The host.
    pub host: String,
    /// The path; null for all.
    pub path: Option<String>,
}

/// An entry of a route table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The Gateway's namespace.
    pub namespace: String,
    /// The Gateway.
    pub gateway: String,
    /// Its port.
    pub port: u16,
    /// The host: a name, `*.` and a name, or `*`.
    pub host: String,
    /// The path, `=` before one that is matched whole; all further conditions follow.
    pub matches: String,
    /// The HTTPRoute, as `namespace/name`.
    pub route: String,
    /// The rule of it.
    pub rule: String,
    /// What becomes of a request.
    pub action: String,
    /// The Envoy clusters that requests go to: `namespace/service/port`.
    pub clusters: Vec<String>,
    /// The entry that takes all of its requests, as `namespace/name` and rule; empty if none does.
    pub shadowed_by: String,
    /// Whether it answers requests as it is written.
    pub serves: bool,
}

impl Asked {
    /// Reads `host`, `host/path` or `scheme://host/path`.
    ///
    /// # Errors
    /// If it names no host.
    pub fn parse(text: &str) -> Result<Asked, String> {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at..])),
            None => (rest, None),
        };
        let host = host
            .split(':')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-.*_".contains(c);
        if host.is_empty() || !host.chars().all(is_name) {
            return Err(format!(
                "{text:?} names no host; write for example shop.example/cart"
            ));
        }
        let path = path.map(|path| path.split(['?', '#']).next().unwrap_or_default().to_owned());
        Ok(Asked { host, path })
    }
}

/// Makes the page.
#[must_use]
pub fn routes(facts: &Facts, asked: Option<Asked>) -> RoutesPage {
    let world = World::of(facts);
    let serving = serving(facts, &world);
    let mut problems = problems(facts, &world, serving.as_deref());
    let mut found: Vec<Found> = serving
        .iter()
        .flatten()
        .flat_map(|serving| entries(serving, &world))
        .collect();
    if let Some(asked) = &asked {
        found = answering(found, asked);
    }
    let entries: Vec<Entry> = found.into_iter().map(|found| found.entry).collect();
    if let Some(asked) = &asked {
        problems.retain(|problem| concerns(problem, asked, &world, &entries));
    }
    RoutesPage {
        ok: problems.is_empty() && entries.iter().all(|entry| entry.serves),
        namespace: facts.namespace.clone(),
        asked,
        entries,
        behind: behind(&problems),
        problems,
        unknown: unknown(facts),
    }
}

/// Whether a problem may be why something asked for is not served: not those of routes for other
/// hosts.
fn concerns(problem: &Problem, asked: &Asked, world: &World, entries: &[Entry]) -> bool {
    if problem.kind != "HTTPRoute" {
        return true;
    }
    let id = (problem.namespace.clone(), problem.name.clone());
    let name = format!("{}/{}", id.0, id.1);
    let host = Host::parse(&asked.host);
    let hosts = world
        .routes
        .get(&id)
        .map(|route| &*route.hostnames)
        .unwrap_or_default();
    entries.iter().any(|entry| entry.route == name)
        || hosts.is_empty()
        || hosts.iter().any(|known| Host::parse(known).covers(&host))
}

/// An entry, with what it was made of.
pub(crate) struct Found {
    pub entry: Entry,
    host: Host,
    made_of: Arc<RouteEntry>,
}

impl Found {
    fn place(&self) -> (Id, u16) {
        let Entry {
            namespace,
            gateway,
            port,
            ..
        } = &self.entry;
        ((namespace.clone(), gateway.clone()), *port)
    }
}

/// All entries of an instance, in the order in which Envoy looks.
pub(crate) fn entries(serving: &Serving, world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for proxy in serving.translation.proxies.values() {
        for (id, table) in proxy.tables.iter() {
            let mut parts = id.0.split('/');
            let (Some(namespace), Some(gateway), Some(port)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let port = port.parse().unwrap_or_default();
            for host in &table.hosts {
                let mut seen: HashMap<&Match, String> = HashMap::new();
                for entry in &host.entries {
                    let made = one(proxy, entry);
                    let shadowed_by = seen.get(&entry.matcher).cloned().unwrap_or_default();
                    let me = format!("{} {}", made.route, made.rule);
                    seen.entry(&entry.matcher).or_insert(me);
                    let entry_told = Entry {
                        namespace: namespace.into(),
                        gateway: gateway.into(),
                        port,
                        host: host.host.to_string(),
                        serves: made.serves && shadowed_by.is_empty(),
                        shadowed_by,
                        ..made
                    };
                    found.push(Found {
                        entry: entry_told,
                        host: host.host.clone(),
                        made_of: entry.clone(),
                    });
                }
            }
        }
    }
    found.retain(|found| world.gateways.contains_key(&found.place().0));
    found
}

fn one(proxy: &Proxy, entry: &RouteEntry) -> Entry {
    let (action, serves) = action(proxy, &entry.action);
    // `spec.rules[0].matches[1]`: the rule is what people look for.
    let rule = entry
        .origin
        .field
        .strip_prefix("spec.")
        .unwrap_or(&entry.origin.field);
    Entry {
        namespace: String::new(),
        gateway: String::new(),
        port: 0,
        host: String::new(),
        matches: conditions(&entry.matcher),
        route: format!("{}/{}", entry.origin.namespace, entry.origin.name),
        rule: rule.into(),
        action,
        clusters: clusters(&entry.action),
        shadowed_by: String::new(),
        serves,
    }
}

/// All conditions of a match on a line.
fn conditions(matcher: &Match) -> String {
    let mut text = match &matcher.path {
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Prefix(path) => path.to_string(),
    };
    if let Some(method) = &matcher.method {
        text = format!("{method} {text}");
    }
    let pairs = |mark: &str, pairs: Vec<(&str, &ValueMatch)>| {
        let each = pairs.into_iter().map(|(name, value)| {
            let ValueMatch::Exact(value) = value;
            format!(" {mark}{name}={value}")
        });
        each.collect::<String>()
    };
    let headers = matcher.headers.iter().map(|one| (&*one.name, &one.value));
    let query = matcher.query.iter().map(|one| (&*one.name, &one.value));
    text.push_str(&pairs("header ", headers.collect()));
    text.push_str(&pairs("query ", query.collect()));
    text
}

/// What becomes of a request, and whether that is as it is written.
fn action(proxy: &Proxy, action: &Action) -> (String, bool) {
    match action {
        Action::Redirect(redirect) => (self::redirect(redirect), true),
        Action::Fixed(fixed) => (
            format!("answers {}: {}", fixed.status, fixed.because),
            false,
        ),
        Action::Forward(backends) => {
            let several = backends.len() > 1;
            let all: Vec<(String, bool)> = backends
                .iter()
                .map(|one| backend(proxy, one, several))
                .collect();
            let serves = all.iter().all(|(_, serves)| *serves);
            let texts: Vec<String> = all.into_iter().map(|(text, _)| text).collect();
            (texts.join(", "), serves)
        }
    }
}

fn clusters(action: &Action) -> Vec<String> {
    let Action::Forward(backends) = action else {
        return Vec::new();
    };
    let named = backends.iter().filter_map(|backend| match &backend.target {
        Target::Cluster(cluster) => Some(cluster.0.to_string()),
        Target::Broken(_) => None,
    });
    named.collect()
}

fn backend(proxy: &Proxy, backend: &Backend, several: bool) -> (String, bool) {
    let weight = match several {
        true => format!(" weight {}", backend.weight),
        false => String::new(),
    };
    match &backend.target {
        Target::Cluster(cluster) => {
            let count = ready(&proxy.endpoints, cluster);
            let name = match service_of(cluster) {
                Some(((_, name), port)) => format!("{name}:{port}"),
                None => cluster.0.to_string(),
            };
            let endpoints = match count {
                0 => "no endpoint is ready".to_owned(),
                1 => "1 endpoint".to_owned(),
                count => format!("{count} endpoints"),
            };
            let serves = count > 0 || backend.weight == 0;
            (format!("{name} ({endpoints}){weight}"), serves)
        }
        Target::Broken(why) => (format!("answers 500: {why}{weight}"), backend.weight == 0),
    }
}

fn redirect(redirect: &Redirect) -> String {
    let mut to = String::new();
    if let Some(scheme) = &redirect.scheme {
        to.push_str(&format!(" {scheme}://"));
    }
    if let Some(host) = &redirect.host {
        to.push_str(&format!(" host {host}"));
    }
    if let Some(port) = redirect.port {
        to.push_str(&format!(" port {port}"));
    }
    match &redirect.path {
        Some(PathRewrite::Full(path)) => to.push_str(&format!(" path {path}")),
        Some(PathRewrite::Prefix(path)) => to.push_str(&format!(" prefix {path}")),
        None => {}
    }
    format!("redirects {}:{to}", redirect.status)
}

/// The entries that a request for this may meet: those of the most specific host at each port, up
/// to the first that takes every request for the path.
fn answering(entries: Vec<Found>, asked: &Asked) -> Vec<Found> {
    let host = Host::parse(&asked.host);
    // The most specific sorts first.
    let mut best: BTreeMap<(Id, u16), Host> = BTreeMap::new();
    for found in entries.iter().filter(|found| found.host.covers(&host)) {
        let best = best
            .entry(found.place())
            .or_insert_with(|| found.host.clone());
        if found.host < *best {
            *best = found.host.clone();
        }
    }
    let mut taken: BTreeSet<(Id, u16)> = BTreeSet::new();
    let mut answering = Vec::new();
    for found in entries {
        let place = found.place();
        if best.get(&place) != Some(&found.host) || taken.contains(&place) {
            continue;
        }
        if let Some(path) = &asked.path {
            let Match {
                path: pattern,
                method,
                headers,
                query,
            } = &found.made_of.matcher;
            if !covers(pattern, path) {
                continue;
            }
            // Without further conditions it takes all that is left.
            if method.is_none() && headers.is_empty() && query.is_empty() {
                taken.insert(place);
            }
        }
        answering.push(found);
    }
    answering
}

fn covers(pattern: &PathMatch, path: &str) -> bool {
    match pattern {
        PathMatch::Exact(whole) => **whole == *path,
        PathMatch::Prefix(prefix) => path
            .strip_prefix(prefix.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    }
}

/// The listener that a host at a port of a Gateway belongs to: its name and whether it is HTTPS.
pub(crate) fn listener_of<'a>(
    gateway: &'a Gateway,
    port: u16,
    host: &str,
) -> Option<(&'a str, bool)> {
    let host = Host::parse(host);
    let mut here: Vec<_> = gateway
        .listeners
        .iter()
        .filter(|listener| listener.port == port)
        .map(|listener| {
            (
                Host::parse(listener.hostname.as_deref().unwrap_or("*")),
                listener,
            )
        })
        .filter(|(known, _)| known.covers(&host))
        .collect();
    here.sort_by(|left, right| left.0.cmp(&right.0));
    let (_, listener) = here.first()?;
    Some((&listener.name, listener.protocol == "HTTPS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_a_host_and_maybe_a_path() {
        let asked = |text: &str| Asked::parse(text).map(|asked| (asked.host, asked.path));
        let path = |path: &str| Some(path.to_owned());
        assert_eq!(asked("A.example"), Ok(("a.example".into(), None)));
        assert_eq!(asked("a.example/x"), Ok(("a.example".into(), path("/x"))));
        let whole = asked("https://a.example:8443/x/y?z=1#w");
        assert_eq!(whole, Ok(("a.example".into(), path("/x/y"))));
        for wrong in ["", "/x", "a b", "http://", "\u{1b}[31m"] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn paths_are_matched_as_the_model_says() {
        let prefix = |text: &str| PathMatch::Prefix(text.into());
        for (pattern, path, covered) in [
            (prefix("/"), "/x", true),
            (prefix("/foo"), "/foo", true),
            (prefix("/foo"), "/foo/", true),
            (prefix("/foo"), "/foo/bar", true),
            (prefix("/foo"), "/foobar", false),
            (PathMatch::Exact("/foo".into()), "/foo", true),
            (PathMatch::Exact("/foo".into()), "/foo/", false),
        ] {
            assert_eq!(covers(&pattern, path), covered, "{pattern:?} {path}");
        }
    }
}
