//! Events on GatewayInstances: what became of them, for those who look there and not at conditions.
//!
//! An event tells that a condition changed, in the words of the condition. Equal ones are counted
//! up instead of written again (`events.k8s.io/v1`, `series`). An event that cannot be written is
//! lost: the condition says the same.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use postern_api::instance::GatewayInstanceStatus;
use postern_api::reasons::{ConditionType, Reason};
use postern_api::{CONTROLLER_NAME, GROUP};
use postern_refs::Key;

use crate::problem::chain;

/// The most bytes of a note (`events.k8s.io/v1`, `note`).
const MOST_OF_A_NOTE: usize = 1024;

/// Something that became of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The condition that changed.
    pub condition: ConditionType,
    /// Whether somebody has to act.
    pub warns: bool,
    /// The condition's reason.
    pub reason: String,
    /// The condition's message, cut.
    pub note: String,
}

/// What changed between two statuses that is worth an event: refusals and their end. That
/// something is under way is none.
#[must_use]
pub fn news(before: &GatewayInstanceStatus, now: &GatewayInstanceStatus) -> Vec<News> {
    let changed = |kind: ConditionType| {
        let of = |status: &GatewayInstanceStatus| {
            let mut conditions = status.conditions.iter();
            conditions
                .find(|condition| condition.type_ == kind.as_str())
                .cloned()
        };
        let (old, new) = (of(before), of(now)?);
        let same = old.is_some_and(|old| {
            (old.status, old.reason) == (new.status.clone(), new.reason.clone())
        });
        (!same).then(|| News {
            condition: kind,
            warns: new.status != "True",
            reason: new.reason,
            note: cut(&new.message),
        })
    };
    let accepted = changed(ConditionType::Accepted);
    let refused = accepted.as_ref().is_some_and(|news| news.warns);
    let ready = changed(ConditionType::Ready)
        // What is refused is not ready either.
        .filter(|_| !refused)
        .filter(|news| news.reason != Reason::Progressing.as_str());
    accepted.into_iter().chain(ready).collect()
}

/// At most as long as a note may be.
fn cut(text: &str) -> String {
    const MORE: &str = " …";
    if text.len() <= MOST_OF_A_NOTE {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MOST_OF_A_NOTE - MORE.len());
    format!("{}{MORE}", &text[..end])
}

/// Writes events.
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// As this pod of the operator's.
    #[must_use]
    pub fn new(client: kube::Client, pod: &str) -> Events {
        let reporter = Reporter {
            controller: CONTROLLER_NAME.into(),
            instance: Some(pod.to_owned()),
        };
        Events {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Tells the news of an instance. What cannot be told is logged.
    pub async fn tell(&self, key: &Key, uid: &str, all: Vec<News>) {
        let instance = ObjectReference {
            api_version: Some(format!("{GROUP}/v1alpha1")),
            kind: Some("GatewayInstance".into()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        for news in all {
            let event = Event {
                type_: match news.warns {
                    true => EventType::Warning,
                    false => EventType::Normal,
                },
                reason: news.reason,
                note: (!news.note.is_empty()).then_some(news.note),
                action: news.condition.into(),
                secondary: None,
            };
            if let Err(error) = self.recorder.publish(&event, &instance).await {
                tracing::warn!(instance = %key, error = chain(&error), "an event was not written");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn status(conditions: &[(&str, bool, &str)]) -> GatewayInstanceStatus {
        let condition = |(kind, holds, reason): &(&str, bool, &str)| Condition {
            type_: (*kind).into(),
            status: if *holds { "True" } else { "False" }.into(),
            reason: (*reason).into(),
            message: format!("about {reason}"),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        GatewayInstanceStatus {
            conditions: conditions.iter().map(condition).collect(),
            ..GatewayInstanceStatus::default()
        }
    }

    fn told(before: &[(&str, bool, &str)], now: &[(&str, bool, &str)]) -> Vec<(bool, String)> {
        let news = news(&status(before), &status(now)).into_iter();
        news.map(|news| (news.warns, news.reason)).collect()
    }

    #[test]
    fn refusals_and_their_end_are_told_once() {
        let refused = [
            ("Accepted", false, "NotGranted"),
            ("Ready", false, "NotGranted"),
        ];
        let coming = [
            ("Accepted", true, "Accepted"),
            ("Ready", false, "Progressing"),
        ];
        let there = [("Accepted", true, "Accepted"), ("Ready", true, "Ready")];
        let unexposed = [
            ("Accepted", true, "Accepted"),
            ("Ready", false, "RouteNotAdmitted"),
        ];
        assert_eq!(told(&[], &refused), [(true, "NotGranted".into())]);
        assert_eq!(told(&refused, &refused), []);
        assert_eq!(told(&refused, &coming), [(false, "Accepted".into())]);
        assert_eq!(told(&coming, &there), [(false, "Ready".into())]);
        assert_eq!(
            told(&there, &unexposed),
            [(true, "RouteNotAdmitted".into())]
        );
    }

    #[test]
    fn a_note_is_never_too_long() {
        for text in ["a".repeat(1024), "ä".repeat(900), "a".repeat(5000)] {
            let note = cut(&text);
            assert!(note.len() <= 1024, "{}", note.len());
            assert_eq!(note.ends_with('…'), text.len() > 1024);
        }
    }
}
