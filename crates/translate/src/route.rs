//! An HTTPRoute: its rules become entries, and the entries are placed in tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use postern_model::{
    Action, Fixed, Host, Match, Origin, Precedence, Redirect, RouteEntry, RouteId, TableId, Text,
};
use postern_refs::attach::{self, Detached};
use postern_refs::objects::{HttpRoute, HttpRule, Object, ParentRef};
use postern_refs::permit::Permissions;
use postern_refs::status::Status;
use postern_refs::{Body, FieldPath, Key, Name, Snapshot};

use crate::backends::{BackendPort, Resolver, Shares};
use crate::filters::{is_hostname, resolve_port};
use crate::frame::{Frames, GatewayFrame, ListenerFrame, not_built};
use crate::outcome::{Cause, Problem};
use crate::report::{Health, ParentReport, route_status};
use crate::{filters, matches};

/// Where an entry stands: a host of a table of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub shard: Text,
    pub table: TableId,
    pub host: Host,
    pub entry: Arc<RouteEntry>,
}

/// All that one route comes to.
#[derive(Clone, Debug)]
pub(crate) struct RouteOutcome {
    pub status: Arc<Status>,
    pub placements: Vec<Placement>,
    /// What it forwards to, for each shard that serves it.
    pub uses: Vec<(Text, BackendPort)>,
    /// The Services that it was resolved against, absent ones too.
    pub services: Vec<Key>,
    /// The listeners that count it as attached.
    pub attached: Vec<(Key, Name)>,
    /// Entries that had to be made; the others are the old ones.
    pub made: usize,
}

/// What a route is translated against.
pub(crate) struct Context<'a> {
    pub snapshot: &'a Snapshot,
    pub permissions: &'a Permissions,
    pub frames: &'a Frames,
    /// The hostnames that the namespace owns.
    pub owned: &'a [Host],
    /// Routes that are over the quota.
    pub over: &'a BTreeSet<Key>,
    /// The quota.
    pub most: Option<u32>,
}

/// A rule before it is known at which listener it serves.
struct Rule {
    matches: Vec<(usize, Match)>,
    action: Template,
    origin: Origin,
}

enum Template {
    Ready(Action),
    /// The port depends on the listener.
    Redirect(Redirect),
}

/// Translates one route; entries that come out as before stay the same `Arc`.
pub(crate) fn translate(
    object: &Object<HttpRoute>,
    context: &Context<'_>,
    before: Option<&RouteOutcome>,
) -> RouteOutcome {
    let mut outcome = RouteOutcome {
        status: Arc::new(Status::Route(postern_refs::status::RouteStatus::default())),
        placements: Vec::new(),
        uses: Vec::new(),
        services: Vec::new(),
        attached: Vec::new(),
        made: 0,
    };
    let mut problems = Vec::new();
    let route = match &object.body {
        Body::Valid(route) => route,
        Body::Invalid { field, reason } => {
            // The parents may not be known, so there may be nowhere to say so but the log.
            problems.push(Problem::new(
                Cause::Undecodable,
                field.clone(),
                reason.clone(),
            ));
            outcome.status = Arc::new(Status::Route(route_status(
                object,
                Vec::new(),
                &problems,
                Health::Broken,
            )));
            return outcome;
        }
    };
    let over = context.over.contains(&object.meta.key);
    let mut used = Vec::new();
    let (rules, health) = rules(
        object,
        route,
        context,
        &mut problems,
        &mut used,
        &mut outcome.services,
    );
    let hosts = hostnames(route, &mut problems);
    let mut builder = Builder {
        object,
        rules: &rules,
        before,
        outcome: &mut outcome,
        entries: Vec::new(),
    };
    let mut parents = Vec::new();
    for (position, parent) in route.parents.iter().enumerate() {
        let Some((namespace, name)) = attach::gateway_of(parent, &object.meta.key.namespace) else {
            continue;
        };
        let key = object.meta.key.sibling(namespace.clone(), name.clone());
        let Some(frame) = context.frames.get(&key) else {
            continue;
        };
        if let Some(most) = context.most.filter(|_| over) {
            parents.push(over_quota(parent, most));
            continue;
        }
        let field = FieldPath::parse(&format!("spec.parentRefs[{position}]"));
        let report = builder.attach(parent, &field, frame, &hosts, context.owned, health);
        parents.push(report);
    }
    let shards: BTreeSet<Text> = outcome
        .placements
        .iter()
        .map(|placement| placement.shard.clone())
        .collect();
    used.sort();
    used.dedup();
    outcome.uses = shards
        .iter()
        .flat_map(|shard| used.iter().map(|port| (shard.clone(), port.clone())))
        .collect();
    outcome.services.sort();
    outcome.services.dedup();
    outcome.attached.sort();
    outcome.attached.dedup();
    let status = Status::Route(route_status(object, parents, &problems, health));
    outcome.status = match before {
        Some(before) if *before.status == status => before.status.clone(),
        _ => Arc::new(status),
    };
    outcome
}

fn over_quota(parent: &ParentRef, most: u32) -> ParentReport {
    let message = format!(
        "the TenantGrant allows {most} routes, and as many older ones stand; remove some or ask your platform's admins"
    );
    ParentReport {
        parent: parent.clone(),
        detached: Some(Problem::new(
            Cause::OverQuota,
            FieldPath::default(),
            message,
        )),
        notes: Vec::new(),
    }
}

/// The route's hostnames; those that are no DNS names or stand twice are left out and reported.
fn hostnames(route: &HttpRoute, problems: &mut Vec<Problem>) -> Option<Vec<Host>> {
    let mut hosts: Vec<Host> = Vec::with_capacity(route.hostnames.len());
    for (position, name) in route.hostnames.iter().enumerate() {
        let field = || FieldPath::parse(&format!("spec.hostnames[{position}]"));
        if !is_hostname(name) {
            problems.push(Problem::new(
                Cause::InvalidValue,
                field(),
                format!(
                    "{} is no DNS name, nor '*.' and a DNS name",
                    matches::shown(name)
                ),
            ));
            continue;
        }
        let host = Host::parse(name);
        if let Some(first) = hosts.iter().position(|other| *other == host) {
            problems.push(Problem::new(
                Cause::DuplicateHostname,
                field(),
                format!("it is the same host as spec.hostnames[{first}]; remove one of them"),
            ));
        } else {
            hosts.push(host);
        }
    }
    // A route all of whose hostnames are broken serves none, not all.
    (route.hostnames.is_empty() || !hosts.is_empty()).then_some(hosts)
}

fn rules(
    object: &Object<HttpRoute>,
    route: &HttpRoute,
    context: &Context<'_>,
    problems: &mut Vec<Problem>,
    used: &mut Vec<BackendPort>,
    services: &mut Vec<Key>,
) -> (Vec<Rule>, Health) {
    let whole: Vec<&FieldPath> = object
        .unsupported
        .iter()
        .filter(|path| path.index_after(&["spec", "rules"]).is_none())
        .collect();
    problems.extend(whole.iter().map(|path| not_built(path)));
    let mut broken = 0;
    let mut made = Vec::with_capacity(route.rules.len());
    for (position, rule) in route.rules.iter().enumerate() {
        let before = problems.len();
        let mut lowered = lower_rule(object, rule, position, context, problems, used, services);
        let flawed = problems[before..].iter().any(|problem| {
            let effect = problem.cause.condition(crate::outcome::Subject::Route);
            effect.bad && effect.condition == "Accepted"
        });
        if !whole.is_empty() {
            lowered.action = fixed("a field of the route is not built");
        }
        if flawed || !whole.is_empty() {
            broken += 1;
        }
        made.push(lowered);
    }
    let health = match broken {
        0 => Health::Sound,
        count if count == route.rules.len() => Health::Broken,
        _ => Health::Partial,
    };
    (made, health)
}

fn fixed(because: &str) -> Template {
    Template::Ready(Action::Fixed(Fixed {
        status: 500,
        because: because.into(),
    }))
}

fn lower_rule(
    object: &Object<HttpRoute>,
    rule: &HttpRule,
    position: usize,
    context: &Context<'_>,
    problems: &mut Vec<Problem>,
    used: &mut Vec<BackendPort>,
    services: &mut Vec<Key>,
) -> Rule {
    let path = FieldPath::parse(&format!("spec.rules[{position}]"));
    let unsupported: Vec<&FieldPath> = object
        .unsupported
        .iter()
        .filter(|field| path.contains(field))
        .collect();
    problems.extend(unsupported.iter().map(|field| not_built(field)));
    // A field of a match that is not built makes that match unknown: it is left out.
    let within = |name: &str, index: usize| {
        let place = path.field(name).index(index);
        unsupported.iter().any(|field| place.contains(field))
    };
    let elsewhere = unsupported.iter().any(|field| {
        !path.field("matches").contains(field) && !path.field("backendRefs").contains(field)
    });
    let mut lowered = Vec::with_capacity(rule.matches.len());
    for (index, wanted) in rule.matches.iter().enumerate() {
        if within("matches", index) {
            continue;
        }
        let field = path.field("matches").index(index);
        if let Some(matcher) = matches::lower(wanted, &field).record(problems) {
            lowered.push((index, matcher));
        }
    }
    let filtered = filters::lower(rule, &path.field("filters")).record(problems);
    let resolver = Resolver {
        snapshot: context.snapshot,
        permissions: context.permissions,
        route: &object.meta.key,
    };
    let mut forwards = Vec::new();
    let shares = resolver
        .shares(
            &rule.backends,
            &path.field("backendRefs"),
            |index| within("backendRefs", index),
            &mut forwards,
            services,
        )
        .record(problems);
    let action = match (elsewhere, filtered, shares) {
        (true, ..) => fixed("a field of the rule is not built"),
        (_, Err(()), _) => fixed("a filter of the rule cannot be applied"),
        (_, Ok(Some(redirect)), _) => Template::Redirect(redirect),
        (_, Ok(None), Shares::Fixed(answer)) => Template::Ready(Action::Fixed(answer)),
        (_, Ok(None), Shares::Forward(backends)) => {
            used.append(&mut forwards);
            Template::Ready(Action::Forward(backends))
        }
    };
    Rule {
        matches: lowered,
        action,
        origin: origin(&object.meta.key, &path),
    }
}

fn origin(route: &Key, field: &FieldPath) -> Origin {
    Origin {
        kind: "HTTPRoute".into(),
        namespace: route.namespace.clone(),
        name: route.name.clone(),
        field: field.to_string().into(),
    }
}

struct Builder<'a> {
    object: &'a Object<HttpRoute>,
    rules: &'a [Rule],
    before: Option<&'a RouteOutcome>,
    outcome: &'a mut RouteOutcome,
    /// Entries made so far, to share between listeners.
    entries: Vec<Arc<RouteEntry>>,
}

impl Builder<'_> {
    fn attach(
        &mut self,
        parent: &ParentRef,
        field: &FieldPath,
        frame: &GatewayFrame,
        route_hosts: &Option<Vec<Host>>,
        owned: &[Host],
        health: Health,
    ) -> ParentReport {
        let mut report = ParentReport {
            parent: parent.clone(),
            detached: None,
            notes: Vec::new(),
        };
        let mut reason = Detached::NoMatchingParent;
        let mut granted = true;
        let mut attached = false;
        let named = frame
            .listeners
            .iter()
            .filter(|listener| attach::names_listener(parent, &listener.spec));
        for listener in named {
            reason = reason.max(Detached::NotAllowedByListeners);
            let own = &self.object.meta.key.namespace;
            if !listener.route_namespaces.contains(own)
                || !attach::takes_kind(&listener.spec, "HTTPRoute")
            {
                continue;
            }
            reason = Detached::NoMatchingListenerHostname;
            let Some(wanted) = route_hosts else { continue };
            let shared = attach::shared_hosts(&listener.host, wanted);
            let hosts = hosts_at(listener, &shared, owned);
            if hosts.is_empty() {
                granted = granted && shared.is_empty();
                continue;
            }
            attached = true;
            if health != Health::Broken {
                self.outcome
                    .attached
                    .push((frame.key.clone(), listener.name.clone()));
            }
            if let Some(table) = &listener.table {
                self.place(frame, listener, table, &hosts);
            }
        }
        if !attached {
            let (cause, message) = match (reason, granted) {
                (Detached::NoMatchingParent, _) => (
                    Cause::NoMatchingParent,
                    "no listener of the Gateway has this sectionName and port",
                ),
                (Detached::NotAllowedByListeners, _) => (
                    Cause::NotAllowedByListeners,
                    "no listener takes HTTPRoutes of this namespace; see allowedRoutes of the Gateway's listeners",
                ),
                (Detached::NoMatchingListenerHostname, true) => (
                    Cause::NoMatchingListenerHostname,
                    "no listener shares a hostname with spec.hostnames",
                ),
                (Detached::NoMatchingListenerHostname, false) => (
                    Cause::HostnameNotGranted,
                    "no TenantGrant gives this namespace any of these hostnames; ask your platform's admins",
                ),
            };
            report.detached = Some(Problem::new(cause, field.clone(), message));
        } else if let Some(wanted) = route_hosts {
            let lost = wanted
                .iter()
                .filter(|host| !owned.iter().any(|mine| mine.intersect(host).is_some()));
            report.notes.extend(lost.map(|host| {
                Problem::new(
                    Cause::HostnameNotGranted,
                    FieldPath::parse("spec.hostnames"),
                    format!("no TenantGrant gives this namespace {host}; it is not served"),
                )
            }));
        }
        report
    }

    fn place(
        &mut self,
        frame: &GatewayFrame,
        listener: &ListenerFrame,
        table: &TableId,
        hosts: &[Host],
    ) {
        for (rule_index, rule) in self.rules.iter().enumerate() {
            for (match_index, matcher) in &rule.matches {
                let entry = self.entry(rule_index, rule, *match_index, matcher, listener);
                for host in hosts {
                    let placement = Placement {
                        shard: frame.shard.clone(),
                        table: table.clone(),
                        host: host.clone(),
                        entry: entry.clone(),
                    };
                    let double = self.outcome.placements.iter().any(|other| {
                        other.table == placement.table
                            && other.host == placement.host
                            && other.entry.precedence == placement.entry.precedence
                    });
                    if !double {
                        self.outcome.placements.push(placement);
                    }
                }
            }
        }
    }

    fn entry(
        &mut self,
        rule_index: usize,
        rule: &Rule,
        match_index: usize,
        matcher: &Match,
        listener: &ListenerFrame,
    ) -> Arc<RouteEntry> {
        let meta = &self.object.meta;
        let id = RouteId {
            namespace: meta.key.namespace.clone(),
            name: meta.key.name.clone(),
            source: meta.key.source.0,
            rule: u16::try_from(rule_index).unwrap_or(u16::MAX),
            matching: u16::try_from(match_index).unwrap_or(u16::MAX),
        };
        let precedence: Precedence = matcher.precedence(meta.created, id);
        let action = match &rule.action {
            Template::Ready(action) => action.clone(),
            Template::Redirect(redirect) => {
                Action::Redirect(resolve_port(redirect, listener.spec.port, listener.tls))
            }
        };
        let fresh = RouteEntry {
            precedence,
            matcher: matcher.clone(),
            action,
            origin: rule.origin.clone(),
        };
        let known = self
            .entries
            .iter()
            .chain(
                self.before
                    .iter()
                    .flat_map(|before| before.placements.iter().map(|placement| &placement.entry)),
            )
            .find(|entry| ***entry == fresh);
        let entry = match known {
            Some(entry) => entry.clone(),
            None => {
                self.outcome.made += 1;
                Arc::new(fresh)
            }
        };
        if !self.entries.iter().any(|known| Arc::ptr_eq(known, &entry)) {
            self.entries.push(entry.clone());
        }
        entry
    }
}

/// The hosts that a route serves at a listener: what both name, what the namespace owns, and what
/// no more specific listener of the same port claims.
fn hosts_at(listener: &ListenerFrame, shared: &[Host], owned: &[Host]) -> Vec<Host> {
    let mut hosts: Vec<Host> = shared
        .iter()
        .flat_map(|host| owned.iter().filter_map(move |mine| mine.intersect(host)))
        .filter(|host| attach::owner(host, &listener.siblings) == Some(listener.place))
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}
