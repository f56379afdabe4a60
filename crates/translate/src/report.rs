//! What is said about objects, before times and acknowledgements.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use postern_api::entitlement::ExposedVerdict;
use postern_model::{TableId, Text};
use postern_refs::objects::{Object, ParentRef, RouteKind};
use postern_refs::status::{Address, Condition, ParentStatus, RouteStatus, Truth};
use postern_refs::{Key, Name};

use crate::outcome::{Problem, Subject};

/// The most bytes of a condition's message that are kept; the API allows 32,768.
const MESSAGE_LIMIT: usize = 4_096;
/// What is said where nothing is wrong.
const ATTACHED: &str = "The route is attached.";
pub(crate) const RESOLVED: &str = "All references are resolved.";

/// What is said about a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayReport {
    /// The Gateway.
    pub key: Key,
    /// The generation that was looked at.
    pub generation: i64,
    /// The shard that serves it.
    pub shard: Text,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Whether clients need an address that nobody has given it yet.
    pub awaits_address: bool,
    /// How its exposure fares, where there is something to say.
    pub exposed: Option<ExposedVerdict>,
    /// Problems of the Gateway as a whole.
    pub problems: Vec<Problem>,
    /// Its listeners, in its order.
    pub listeners: Vec<ListenerReport>,
}

/// What is said about a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerReport {
    /// Its name.
    pub name: Name,
    /// How many routes are attached.
    pub attached: u32,
    /// The kinds it takes.
    pub supported_kinds: Vec<RouteKind>,
    /// Its problems.
    pub problems: Vec<Problem>,
    /// What Envoy has to acknowledge before it is programmed: listeners by name …
    pub needs_listeners: BTreeSet<Text>,
    /// … and its table; `None` if it is not served at all.
    pub needs_table: Option<TableId>,
}

/// How a route fared at one parent.
#[derive(Clone, Debug)]
pub(crate) struct ParentReport {
    pub parent: ParentRef,
    /// Why it is not attached.
    pub detached: Option<Problem>,
    /// Further things to say about this parent.
    pub notes: Vec<Problem>,
}

/// How many of a route's rules are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// None.
    Sound,
    /// Some; the others serve.
    Partial,
    /// All.
    Broken,
}

/// Our part of the route's status.
pub(crate) fn route_status<T>(
    route: &Object<T>,
    parents: Vec<ParentReport>,
    problems: &[Problem],
    health: Health,
) -> RouteStatus {
    let parents = parents
        .into_iter()
        .map(|report| {
            let all: Vec<&Problem> = report
                .detached
                .iter()
                .chain(&report.notes)
                .chain(problems)
                .collect();
            ParentStatus {
                conditions: route_conditions(
                    route.meta.generation,
                    report.detached.as_ref(),
                    &all,
                    health,
                ),
                parent: report.parent,
            }
        })
        .collect();
    RouteStatus { parents }
}

fn route_conditions(
    generation: i64,
    detached: Option<&Problem>,
    problems: &[&Problem],
    health: Health,
) -> Vec<Condition> {
    let of = |condition: &str| -> Vec<&Problem> {
        problems
            .iter()
            .copied()
            .filter(|problem| problem.cause.condition(Subject::Route).condition == condition)
            .collect()
    };
    let make = |kind, status, reason, message: String| {
        condition(kind, status, reason, &message, generation)
    };
    let accepting = of("Accepted");
    let first_bad = accepting
        .iter()
        .map(|problem| problem.cause.condition(Subject::Route))
        .find(|effect| effect.bad);
    let accepted = match (detached, health, first_bad) {
        (Some(problem), ..) => {
            let reason = problem.cause.condition(Subject::Route).reason;
            make("Accepted", Truth::False, reason, message(&accepting, ""))
        }
        (None, Health::Broken, Some(effect)) => make(
            "Accepted",
            Truth::False,
            effect.reason,
            message(&accepting, ""),
        ),
        _ => {
            let text = message(&accepting, ATTACHED);
            make("Accepted", Truth::True, "Accepted", text)
        }
    };
    let resolving = of("ResolvedRefs");
    let resolved = match resolving.first() {
        Some(problem) => {
            let reason = problem.cause.condition(Subject::Route).reason;
            make(
                "ResolvedRefs",
                Truth::False,
                reason,
                message(&resolving, ""),
            )
        }
        None => make("ResolvedRefs", Truth::True, "ResolvedRefs", RESOLVED.into()),
    };
    let mut conditions = vec![accepted, resolved];
    if let (Health::Partial, Some(effect)) = (health, first_bad) {
        let text = format!(
            "Not all of the route serves as it is written: {}",
            message(&accepting, "")
        );
        conditions.push(make("PartiallyInvalid", Truth::True, effect.reason, text));
    }
    conditions
}

/// A condition. Its words are few and stand in every route's status, so they are shared.
pub(crate) fn condition(
    kind: &'static str,
    status: Truth,
    reason: &'static str,
    message: &str,
    generation: i64,
) -> Condition {
    Condition {
        kind: shared(kind),
        status,
        reason: shared(reason),
        message: match message {
            ATTACHED => shared(ATTACHED),
            RESOLVED => shared(RESOLVED),
            other => other.into(),
        },
        observed_generation: generation,
    }
}

/// The one copy of a word of ours.
fn shared(word: &'static str) -> Name {
    static WORDS: Mutex<BTreeMap<&'static str, Name>> = Mutex::new(BTreeMap::new());
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    words.entry(word).or_insert_with(|| word.into()).clone()
}

/// The problems as one message; `otherwise` if there is none.
pub(crate) fn message(problems: &[&Problem], otherwise: &str) -> String {
    if problems.is_empty() {
        return otherwise.into();
    }
    let mut text = String::new();
    for (position, problem) in problems.iter().enumerate() {
        let next = problem.to_string();
        if text.len() + next.len() > MESSAGE_LIMIT {
            text.push_str(&format!("; and {} more", problems.len() - position));
            break;
        }
        if position > 0 {
            text.push_str("; ");
        }
        text.push_str(&next);
    }
    text
}
