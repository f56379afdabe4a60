//! The status of a GatewayInstance: what is to stand there (pure), and its writing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use postern_api::GatewayInstance;
use postern_api::entitlement::{EntitlementStatus, ExposedVerdict};
use postern_api::instance::{Address, GatewayInstanceStatus, Granted, Used};
use postern_api::reasons::{ConditionType, Reason};
use postern_consent::Consent;
use postern_refs::Key;
use serde_json::Value;

use crate::apply::FIELD_MANAGER;
use crate::events::{News, news};
use crate::live::Facts;
use crate::problem::Problem;
use crate::shared::Shared;

/// The most problems that one condition tells of.
const MOST_PROBLEMS: usize = 5;

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it holds.
    pub holds: bool,
    /// Why.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
}

impl Verdict {
    fn no(reason: Reason, message: impl Into<String>) -> Verdict {
        Verdict {
            holds: false,
            reason,
            message: message.into(),
        }
    }

    fn yes(reason: Reason, message: impl Into<String>) -> Verdict {
        Verdict {
            holds: true,
            reason,
            message: message.into(),
        }
    }
}

/// What is to stand in the status. Without times, so that equal statuses are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The UID of the instance that this is about.
    pub uid: String,
    /// The generation that this is about.
    pub generation: i64,
    /// `Accepted`.
    pub accepted: Verdict,
    /// `Ready`.
    pub ready: Verdict,
    /// Where clients reach the Gateways.
    pub addresses: Vec<Address>,
    /// The TenantGrants in force; `None` if there is none.
    pub granted: Option<Granted>,
    /// What it uses of its quotas; `None` if it gets nothing.
    pub used: Option<Used>,
}

impl Wanted {
    /// Of an instance that gets nothing.
    #[must_use]
    pub fn refused(reason: Reason, message: &str, consent: &Consent) -> Wanted {
        Wanted::of(
            consent,
            Verdict::no(reason, message),
            Verdict::no(reason, "the instance is not accepted"),
        )
    }

    /// Of an instance that was stamped: with these problems, and these Deployments by name.
    #[must_use]
    pub fn stamped(
        consent: &Consent,
        problems: &[Problem],
        deployments: &[(String, Option<Facts>)],
    ) -> Wanted {
        let accepted = Verdict::yes(Reason::Accepted, "");
        Wanted::of(consent, accepted, ready(consent, problems, deployments))
    }

    fn of(consent: &Consent, accepted: Verdict, ready: Verdict) -> Wanted {
        let instance = &consent.entitlement.instance;
        let granted = &consent.granted;
        Wanted {
            uid: instance.uid.clone(),
            generation: instance.generation,
            addresses: consent.addresses.clone(),
            granted: (!granted.by.is_empty()).then(|| granted.clone()),
            used: consent.used.filter(|_| accepted.holds),
            accepted,
            ready,
        }
    }

    /// The status that says this; `before` gives the times of what did not change.
    #[must_use]
    pub fn status(&self, before: &GatewayInstanceStatus, now: &Time) -> GatewayInstanceStatus {
        let condition = |kind: ConditionType, verdict: &Verdict| {
            let status = if verdict.holds { "True" } else { "False" };
            let old = before
                .conditions
                .iter()
                .find(|old| old.type_ == kind.as_str());
            let since = old.filter(|old| old.status == status);
            Condition {
                type_: kind.into(),
                status: status.into(),
                reason: verdict.reason.into(),
                message: verdict.message.clone(),
                observed_generation: Some(self.generation),
                last_transition_time: since.map_or(now, |old| &old.last_transition_time).clone(),
            }
        };
        GatewayInstanceStatus {
            observed_generation: self.generation,
            conditions: vec![
                condition(ConditionType::Accepted, &self.accepted),
                condition(ConditionType::Ready, &self.ready),
            ],
            addresses: self.addresses.clone(),
            granted: self.granted.clone(),
            used: self.used,
        }
    }
}

fn ready(
    consent: &Consent,
    problems: &[Problem],
    deployments: &[(String, Option<Facts>)],
) -> Verdict {
    let told = problems
        .iter()
        .filter_map(|problem| Some((problem.reason()?, problem)));
    let told: Vec<(Reason, &Problem)> = told.collect();
    if let Some((reason, _)) = told.first() {
        let first: Vec<String> = told
            .iter()
            .take(MOST_PROBLEMS)
            .map(|(_, problem)| problem.to_string())
            .collect();
        let more = match told.len().saturating_sub(MOST_PROBLEMS) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        return Verdict::no(*reason, format!("{}{more}", first.join("; ")));
    }
    if let Some(key) = consent.without_port.first() {
        let message = format!(
            "no container port is left for port {} of the Gateway {}; use fewer ports",
            key.port, key.gateway
        );
        return Verdict::no(Reason::NoPortLeft, message);
    }
    let entitlement = &consent.entitlement;
    if entitlement.gateway_classes.is_empty() {
        let message = format!(
            "there is no GatewayClass of this controller; is {} another's?",
            postern_api::GATEWAY_CLASS
        );
        return Verdict::no(Reason::NameInUse, message);
    }
    let missing: Vec<String> = deployments.iter().filter_map(missing).collect();
    if !missing.is_empty() {
        return Verdict::no(Reason::Progressing, missing.join("; "));
    }
    if let Some((gateway, verdict)) = not_exposed(entitlement) {
        let reason = match Reason::parse(&verdict.reason) {
            None | Some(Reason::Pending) => Reason::Progressing,
            Some(reason) => reason,
        };
        return Verdict::no(reason, format!("Gateway {gateway}: {}", verdict.message));
    }
    match without_address(entitlement) {
        Some(name) => {
            let message = format!("the Gateway {name} has no address yet");
            Verdict::no(Reason::Progressing, message)
        }
        None if consent.unfinished => Verdict::no(
            Reason::Progressing,
            "the exposure asked for has no addresses yet; the one before goes on",
        ),
        None if entitlement.gateways.is_empty() => {
            Verdict::yes(Reason::Ready, "no Gateway belongs to the instance yet")
        }
        None => Verdict::yes(Reason::Ready, ""),
    }
}

/// A Gateway that routers do not serve by all that it claims.
fn not_exposed(entitlement: &EntitlementStatus) -> Option<(&str, &ExposedVerdict)> {
    let mut verdicts = entitlement
        .gateways
        .iter()
        .filter_map(|gateway| Some((&*gateway.name, gateway.exposed.as_ref()?)));
    verdicts.find(|(_, verdict)| !verdict.holds)
}

/// A Gateway that should have an address and has none.
fn without_address(entitlement: &EntitlementStatus) -> Option<&str> {
    let mut gateways = entitlement.gateways.iter();
    gateways
        .find(|gateway| gateway.addresses.is_empty() && !gateway.ports.is_empty())
        .map(|gateway| &*gateway.name)
}

fn missing((name, facts): &(String, Option<Facts>)) -> Option<String> {
    match facts {
        Some(Facts::Deployment {
            wanted,
            available,
            trouble,
        }) if available < wanted => {
            let why = trouble
                .as_ref()
                .map(|text| format!(" ({text})"))
                .unwrap_or_default();
            Some(format!(
                "Deployment {name}: {available} of {wanted} pods are available{why}"
            ))
        }
        Some(_) => None,
        None => Some(format!("Deployment {name} is not there yet")),
    }
}

/// Writes the status of an instance, if it is another than the one that is there. Returns what of
/// that is worth an event.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn write(
    shared: &Shared,
    key: &Key,
    wanted: &Wanted,
    now: Time,
) -> Result<Vec<News>, Problem> {
    let what = format!("GatewayInstance {key}");
    let resource = ApiResource::erase::<GatewayInstance>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(shared.client.clone(), &key.namespace, &resource);
    // Read as it is: an instance that does not decode gets a status, too.
    let found = api
        .get_opt(&key.name)
        .await
        .map_err(|error| Problem::of(&what, &error))?;
    let Some(mut object) = found.filter(|found| found.metadata.uid.as_ref() == Some(&wanted.uid))
    else {
        return Ok(Vec::new());
    };
    let raw = object.data.get("status").cloned().unwrap_or(Value::Null);
    let before: GatewayInstanceStatus = serde_json::from_value(raw).unwrap_or_default();
    let status = wanted.status(&before, &now);
    if status == before {
        return Ok(Vec::new());
    }
    let unwritable = |error: serde_json::Error| Problem::WriteRefused {
        what: what.clone(),
        answer: error.to_string(),
    };
    object.data["status"] = serde_json::to_value(&status).map_err(unwritable)?;
    object.types = Some(kube::api::TypeMeta::resource::<GatewayInstance>());
    let ours = PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.into()),
    };
    match api.replace_status(&key.name, &ours, &object).await {
        Ok(_) => {
            let (accepted, ready) = (wanted.accepted.holds, wanted.ready.holds);
            tracing::info!(instance = %key, accepted, ready, reason = %wanted.ready.reason, "status");
            Ok(news(&before, &status))
        }
        Err(error) => Err(Problem::of(&what, &error)),
    }
}

#[cfg(test)]
mod tests {
    use postern_api::entitlement::{EntitledGateway, ExternalAddress, PortAllocation};

    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("a time"))
    }

    fn consent() -> Consent {
        let mut consent = Consent::default();
        consent.entitlement.instance.generation = 3;
        consent.entitlement.gateway_classes = vec!["postern".into()];
        consent.entitlement.gateways = vec![EntitledGateway {
            name: "web".into(),
            ports: vec![PortAllocation::default()],
            addresses: vec![ExternalAddress::default()],
            ..EntitledGateway::default()
        }];
        consent
    }

    fn up(available: i64) -> Vec<(String, Option<Facts>)> {
        let facts = Facts::Deployment {
            wanted: 1,
            available,
            trouble: None,
        };
        vec![("postern-x-envoy".into(), Some(facts))]
    }

    #[test]
    fn times_change_with_the_status_alone() {
        let progressing = Wanted::stamped(&consent(), &[], &up(0));
        let first = progressing.status(&GatewayInstanceStatus::default(), &at(10));
        assert_eq!(
            progressing.status(&first, &at(20)),
            first,
            "an equal status is equal"
        );
        let ready = Wanted::stamped(&consent(), &[], &up(1));
        let second = ready.status(&first, &at(20));
        let times: Vec<_> = second
            .conditions
            .iter()
            .map(|condition| &condition.last_transition_time)
            .collect();
        assert_eq!(times, [&at(10), &at(20)], "Accepted stays, Ready is new");
        assert_eq!(second.conditions[1].reason, "Ready");
        assert_eq!(second.observed_generation, 3);
    }

    #[test]
    fn use_is_news_when_it_changes_and_none_of_what_is_refused() {
        let used = |routes: u32| {
            Some(Used {
                routes,
                listeners: 1,
            })
        };
        let with = |routes: u32| Consent {
            used: used(routes),
            ..consent()
        };
        let before = Wanted::stamped(&with(1), &[], &up(1));
        assert_eq!(before, Wanted::stamped(&with(1), &[], &up(1)));
        let after = Wanted::stamped(&with(2), &[], &up(1));
        assert_ne!(before, after);
        let status = after.status(&GatewayInstanceStatus::default(), &at(1));
        assert_eq!(status.used, used(2));
        let refused = Wanted::refused(Reason::Invalid, "no", &with(1));
        assert_eq!(refused.used, None);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_weight() {
        let foreign = Problem::NameInUse {
            what: "Service a/b".into(),
        };
        let transient = Problem::Unreachable {
            what: "x".into(),
            answer: "y".into(),
        };
        let ready = |problems: &[Problem], consent: &Consent| {
            Wanted::stamped(consent, problems, &up(0)).ready
        };
        let told = ready(&[transient.clone(), foreign.clone()], &consent());
        assert_eq!(told.reason, Reason::NameInUse);
        assert!(told.message.contains("Service a/b exists and is not ours"));
        let progressing = ready(&[transient], &consent());
        assert_eq!(progressing.reason, Reason::Progressing);
        assert!(
            progressing.message.contains("0 of 1 pods"),
            "{}",
            progressing.message
        );
        let many = vec![foreign; 9];
        assert!(ready(&many, &consent()).message.ends_with("; and 4 more"));
        let mut full = consent();
        full.without_port.insert(postern_api::ports::PortKey {
            namespace: "n".into(),
            gateway: "web".into(),
            port: 80,
            exposure: postern_api::entitlement::Exposed::Direct,
        });
        assert_eq!(ready(&[], &full).reason, Reason::NoPortLeft);
        let mut foreign_class = consent();
        foreign_class.entitlement.gateway_classes.clear();
        assert_eq!(ready(&[], &foreign_class).reason, Reason::NameInUse);
    }

    #[test]
    fn ready_needs_an_address_for_each_gateway_that_has_ports() {
        let mut consent = consent();
        consent.entitlement.gateways[0].addresses.clear();
        let waiting = Wanted::stamped(&consent, &[], &up(1)).ready;
        assert!(!waiting.holds && waiting.message.contains("web"));
        consent.entitlement.gateways[0].ports.clear();
        assert!(Wanted::stamped(&consent, &[], &up(1)).ready.holds);
        consent.entitlement.gateways.clear();
        assert!(Wanted::stamped(&consent, &[], &up(1)).ready.holds);
        assert!(
            !Wanted::stamped(&consent, &[], &[("d".into(), None)])
                .ready
                .holds
        );
    }
}
