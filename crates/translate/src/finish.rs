//! Reports and acknowledgements become statuses: run again on each acknowledgement, without
//! translating again.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_api::reasons::ConditionType;
use postern_model::{TableId, Text};
use postern_refs::status::{Condition, GatewayStatus, ListenerStatus, Status, Statuses, Truth};
use postern_refs::{Key, Kind};

use crate::Translation;
use crate::outcome::{Problem, Subject};
use crate::report::{GatewayReport, ListenerReport, RESOLVED, condition, message};

/// What became of an item at the Envoys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// At least one ready Envoy holds its current version.
    Acknowledged,
    /// Envoys refused it; what they said.
    Refused(Text),
}

/// What Envoys of one shard acknowledged. What stands in neither map waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardAcks {
    /// Listeners by name.
    pub listeners: BTreeMap<Text, Ack>,
    /// Route tables.
    pub tables: BTreeMap<TableId, Ack>,
}

/// Acknowledgements by Gateway: of the Envoys that count for it, which are ready endpoints of its
/// Service where it has one.
pub type Acks = BTreeMap<Key, Arc<ShardAcks>>;

/// The statuses of everything that was translated.
#[must_use]
pub fn finish(translation: &Translation, acks: &Acks) -> Statuses {
    let mut statuses = (*translation.routes).clone();
    let none = ShardAcks::default();
    for (key, report) in translation.gateways.iter() {
        let acks = acks.get(key).map_or(&none, |acks| &**acks);
        let status = Status::Gateway(gateway(report, acks));
        statuses.insert((Kind::Gateway, key.clone()), Arc::new(status));
    }
    statuses
}

fn gateway(report: &GatewayReport, acks: &ShardAcks) -> GatewayStatus {
    let generation = report.generation;
    let listeners: Vec<ListenerStatus> = report
        .listeners
        .iter()
        .map(|listener| self::listener(listener, generation, acks))
        .collect();
    let whole: Vec<&Problem> = report.problems.iter().collect();
    let accepted = match report.problems.first() {
        Some(problem) => {
            let reason = problem.cause.condition(Subject::Listener).reason;
            condition(
                "Accepted",
                Truth::False,
                reason,
                &message(&whole, ""),
                generation,
            )
        }
        None => match report
            .listeners
            .iter()
            .find(|listener| bad(listener, "Accepted") || bad(listener, "Conflicted"))
        {
            // One bad listener does not make a Gateway unacceptable (Gateway API, `ListenersNotValid`).
            Some(listener) => {
                let text = format!(
                    "listener {}: {}",
                    listener.name,
                    message(&listener.problems.iter().collect::<Vec<_>>(), "")
                );
                condition(
                    "Accepted",
                    Truth::True,
                    "ListenersNotValid",
                    &text,
                    generation,
                )
            }
            None => condition(
                "Accepted",
                Truth::True,
                "Accepted",
                "The Gateway is accepted.",
                generation,
            ),
        },
    };
    let serving = listeners
        .iter()
        .filter(|listener| {
            listener
                .conditions
                .iter()
                .any(|c| &*c.kind == "Programmed" && c.status == Truth::True)
        })
        .count();
    let waiting = listeners.iter().any(|listener| {
        listener
            .conditions
            .iter()
            .any(|c| &*c.kind == "Programmed" && &*c.reason == "Pending")
    });
    let programmed = if !report.problems.is_empty() {
        condition(
            "Programmed",
            Truth::False,
            "Invalid",
            "The Gateway is not accepted.",
            generation,
        )
    } else if waiting || serving == 0 {
        let text = if waiting {
            "Waiting for an Envoy to acknowledge all listeners."
        } else {
            "No listener is served; see the conditions of the listeners."
        };
        condition(
            "Programmed",
            Truth::False,
            if waiting { "Pending" } else { "Invalid" },
            text,
            generation,
        )
    } else if report.awaits_address {
        let text = match &report.exposed {
            Some(verdict) => format!("An Envoy serves it, but clients cannot come: {}", verdict.message),
            None => "An Envoy serves it, but no load balancer has given its Service an address yet; see the Events of the Service.".into(),
        };
        condition(
            "Programmed",
            Truth::False,
            "AddressNotAssigned",
            &text,
            generation,
        )
    } else {
        condition(
            "Programmed",
            Truth::True,
            "Programmed",
            "At least one ready Envoy serves it.",
            generation,
        )
    };
    let exposed = report.exposed.as_ref().map(|verdict| Condition {
        kind: ConditionType::Exposed.into(),
        status: match verdict.holds {
            true => Truth::True,
            false => Truth::False,
        },
        reason: verdict.reason.as_str().into(),
        message: verdict.message.as_str().into(),
        observed_generation: generation,
    });
    let conditions = [accepted, programmed].into_iter().chain(exposed);
    GatewayStatus {
        addresses: report.addresses.clone(),
        conditions: conditions.collect(),
        listeners,
    }
}

fn bad(listener: &ListenerReport, kind: &str) -> bool {
    listener.problems.iter().any(|problem| {
        let effect = problem.cause.condition(Subject::Listener);
        effect.bad && effect.condition == kind
    })
}

fn listener(report: &ListenerReport, generation: i64, acks: &ShardAcks) -> ListenerStatus {
    let mut conditions = Vec::new();
    // For `Conflicted` True is the bad state.
    for (kind, good, calm, text) in [
        (
            "Accepted",
            Truth::True,
            "Accepted",
            "The listener is accepted.",
        ),
        (
            "Conflicted",
            Truth::False,
            "NoConflicts",
            "No other listener excludes it.",
        ),
        ("ResolvedRefs", Truth::True, "ResolvedRefs", RESOLVED),
    ] {
        let about: Vec<&Problem> = report
            .problems
            .iter()
            .filter(|problem| problem.cause.condition(Subject::Listener).condition == kind)
            .collect();
        let first = about
            .iter()
            .map(|p| p.cause.condition(Subject::Listener))
            .find(|effect| effect.bad);
        conditions.push(match first {
            Some(effect) => {
                let status = if good == Truth::True {
                    Truth::False
                } else {
                    Truth::True
                };
                condition(
                    kind,
                    status,
                    effect.reason,
                    &message(&about, ""),
                    generation,
                )
            }
            None => condition(kind, good, calm, &message(&about, text), generation),
        });
    }
    conditions.push(programmed(report, generation, acks));
    ListenerStatus {
        name: report.name.clone(),
        attached_routes: report.attached,
        supported_kinds: report.supported_kinds.clone(),
        conditions,
    }
}

fn programmed(report: &ListenerReport, generation: i64, acks: &ShardAcks) -> Condition {
    let make = |status, reason: &'static str, text: &str| {
        condition("Programmed", status, reason, text, generation)
    };
    let Some(table) = &report.needs_table else {
        let all: Vec<&Problem> = report.problems.iter().collect();
        return make(
            Truth::False,
            "Invalid",
            &message(&all, "The listener is not served."),
        );
    };
    let of_listeners = report
        .needs_listeners
        .iter()
        .map(|name| acks.listeners.get(name));
    let states: Vec<Option<&Ack>> = of_listeners.chain([acks.tables.get(table)]).collect();
    if let Some(Ack::Refused(said)) = states
        .iter()
        .flatten()
        .find(|ack| matches!(ack, Ack::Refused(_)))
    {
        return make(
            Truth::False,
            "Invalid",
            &format!("Envoy refused it, and goes on with what it had: {said}"),
        );
    }
    if report.needs_listeners.is_empty() || states.iter().any(Option::is_none) {
        return make(
            Truth::False,
            "Pending",
            "Waiting for a ready Envoy to acknowledge it.",
        );
    }
    make(
        Truth::True,
        "Programmed",
        "At least one ready Envoy serves it.",
    )
}
