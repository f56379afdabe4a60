//! The GatewayClass: made if it is not there, never adopted, and its status.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use postern_api::reasons::{ConditionType, Reason};
use postern_api::{CONTROLLER_NAME, GATEWAY_CLASS, GATEWAY_GROUP};
use postern_consent::is_our_class;
use postern_refs::objects::GatewayClass;
use postern_refs::{Key, Object, Snapshot};
use postern_stamp::labels;
use serde_json::{Value, json};

use crate::apply::FIELD_MANAGER;
use crate::problem::Problem;
use crate::shared::Shared;

/// The versions of the Gateway API that we know (`1.2` to `1.6`).
const KNOWN: std::ops::RangeInclusive<(u64, u64)> = (1, 2)..=(1, 6);

/// The annotation by which the Gateway API's CRDs tell their version.
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// What became of the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is there, with its status.
    There,
    /// The cluster does not serve the Gateway API.
    NotServed,
}

/// Makes the class be there, and writes the status of each class that names us.
///
/// # Errors
/// If the API server refuses or cannot be reached, or the class of our name is another
/// controller's.
pub async fn keep(shared: &Shared, snapshot: &Snapshot, now: &Time) -> Result<Kept, Problem> {
    let version = version(shared).await?;
    for class in snapshot
        .gateway_classes
        .values()
        .filter(|class| is_our_class(class))
    {
        write_status(shared, class, version.as_deref(), now).await?;
    }
    match snapshot.gateway_classes.get(&Key::new("", GATEWAY_CLASS)) {
        None => make(shared).await,
        Some(class) if is_our_class(class) => Ok(Kept::There),
        Some(_) => Err(Problem::NameInUse {
            what: format!("GatewayClass {GATEWAY_CLASS}"),
        }),
    }
}

fn api(shared: &Shared) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GATEWAY_GROUP, "v1", "GatewayClass");
    let resource = ApiResource::from_gvk_with_plural(&kind, "gatewayclasses");
    Api::all_with(shared.client.clone(), &resource)
}

async fn make(shared: &Shared) -> Result<Kept, Problem> {
    let what = format!("GatewayClass {GATEWAY_CLASS}");
    let fresh = json!({
        "apiVersion": format!("{GATEWAY_GROUP}/v1"),
        "kind": "GatewayClass",
        "metadata": {
            "name": GATEWAY_CLASS,
            "labels": {labels::MANAGED_BY: labels::MANAGER},
        },
        "spec": {
            "controllerName": CONTROLLER_NAME,
            "description": "A gateway of one's own: an isolated Envoy for each namespace",
        },
    });
    let fresh = serde_json::from_value(fresh).map_err(|error| Problem::WriteRefused {
        what: what.clone(),
        answer: error.to_string(),
    })?;
    match api(shared).create(&writing(), &fresh).await {
        Ok(_) => {
            tracing::info!(class = GATEWAY_CLASS, "created");
            Ok(Kept::There)
        }
        // The Snapshot was behind; the next one tells whose it is.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Kept::There),
        // Classes are in no namespace that could be absent: the kind is. For a group that it does not know,
        // an API server gives no reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Kept::NotServed),
        Err(error) => Err(Problem::of(&what, &error)),
    }
}

fn writing() -> PostParams {
    PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.into()),
    }
}

/// The version of the Gateway API's CRDs, as they tell it.
async fn version(shared: &Shared) -> Result<Option<String>, Problem> {
    let name = format!("gatewayclasses.{GATEWAY_GROUP}");
    let api: Api<CustomResourceDefinition> = Api::all(shared.client.clone());
    match api.get_metadata_opt(&name).await {
        Ok(found) => {
            let annotations = found.and_then(|found| found.metadata.annotations);
            Ok(annotations.and_then(|mut annotations| annotations.remove(BUNDLE_VERSION)))
        }
        // A right that we can do without.
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(error) => Err(Problem::of(
            &format!("CustomResourceDefinition {name}"),
            &error,
        )),
    }
}

async fn write_status(
    shared: &Shared,
    class: &Object<GatewayClass>,
    version: Option<&str>,
    now: &Time,
) -> Result<(), Problem> {
    let name = &*class.meta.key.name;
    let what = format!("GatewayClass {name}");
    let found = api(shared)
        .get_opt(name)
        .await
        .map_err(|error| Problem::of(&what, &error))?;
    let Some(mut object) = found else {
        return Ok(());
    };
    let before = object
        .data
        .pointer("/status/conditions")
        .cloned()
        .unwrap_or(Value::Null);
    let before: Vec<Condition> = serde_json::from_value(before).unwrap_or_default();
    let after = conditions(class, version, &before, now);
    if after == before {
        return Ok(());
    }
    let conditions = serde_json::to_value(&after).unwrap_or_default();
    if object.data["status"].is_object() {
        object.data["status"]["conditions"] = conditions;
    } else {
        object.data["status"] = json!({"conditions": conditions});
    }
    api(shared)
        .replace_status(name, &writing(), &object)
        .await
        .map(|_| tracing::info!(class = name, "status"))
        .map_err(|error| Problem::of(&what, &error))
}

/// The conditions of a class of ours. Those of others stay.
fn conditions(
    class: &Object<GatewayClass>,
    version: Option<&str>,
    before: &[Condition],
    now: &Time,
) -> Vec<Condition> {
    let parameters = class
        .valid()
        .is_some_and(|class| class.parameters.is_some());
    let accepted = match parameters {
        true => {
            let message = "spec.parametersRef: not supported; remove it";
            (
                ConditionType::Accepted,
                false,
                Reason::InvalidParameters,
                message.to_owned(),
            )
        }
        false => (
            ConditionType::Accepted,
            true,
            Reason::Accepted,
            String::new(),
        ),
    };
    let supported = version.map(|version| match is_known(version) {
        true => (
            ConditionType::SupportedVersion,
            true,
            Reason::SupportedVersion,
            format!("the Gateway API's CRDs are {version}"),
        ),
        false => (
            ConditionType::SupportedVersion,
            false,
            Reason::UnsupportedVersion,
            format!("the Gateway API's CRDs are {version}; known are v1.2 to v1.6"),
        ),
    });
    let mut after = before.to_vec();
    for (kind, holds, reason, message) in std::iter::once(accepted).chain(supported) {
        let status = if holds { "True" } else { "False" };
        let old = before.iter().find(|old| old.type_ == kind.as_str());
        let since = old.filter(|old| old.status == status);
        let new = Condition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message,
            observed_generation: Some(class.meta.generation),
            last_transition_time: since.map_or(now, |old| &old.last_transition_time).clone(),
        };
        match after.iter_mut().find(|old| old.type_ == kind.as_str()) {
            Some(place) => *place = new,
            None => after.push(new),
        }
    }
    after
}

fn is_known(version: &str) -> bool {
    let mut numbers = version
        .trim_start_matches('v')
        .split(['.', '-'])
        .map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => KNOWN.contains(&(major, minor)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use postern_refs::{Body, Meta};

    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("a time"))
    }

    fn class() -> Object<GatewayClass> {
        Object {
            meta: Meta {
                key: Key::new("", GATEWAY_CLASS),
                uid: "u".into(),
                generation: 2,
                created: 0,
            },
            body: Body::Valid(GatewayClass {
                controller: CONTROLLER_NAME.into(),
                parameters: None,
            }),
            unsupported: Vec::new(),
        }
    }

    #[test]
    fn versions_between_1_2_and_1_6_are_known() {
        for known in ["v1.2.1", "v1.6.3", "v1.5.1-rc.1"] {
            assert!(is_known(known), "{known}");
        }
        for unknown in ["v1.1.0", "v1.7.0", "v2.3.0", "", "main", "v1"] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }

    #[test]
    fn conditions_are_equal_when_nothing_changed_and_others_conditions_stay() {
        let theirs = Condition {
            type_: "example.com/Audited".into(),
            status: "True".into(),
            reason: "Yes".into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: at(1),
        };
        let first = conditions(
            &class(),
            Some("v1.6.3"),
            std::slice::from_ref(&theirs),
            &at(10),
        );
        assert_eq!(first.len(), 3);
        assert_eq!(first[0], theirs);
        assert_eq!((&*first[1].type_, &*first[1].status), ("Accepted", "True"));
        assert_eq!(first[1].observed_generation, Some(2));
        assert_eq!(conditions(&class(), Some("v1.6.3"), &first, &at(20)), first);
        let mut wrong = class();
        if let Body::Valid(class) = &mut wrong.body {
            class.parameters = Some(postern_refs::ObjectRef {
                group: "".into(),
                kind: "ConfigMap".into(),
                namespace: None,
                name: "x".into(),
            });
        }
        let second = conditions(&wrong, Some("v1.7.0"), &first, &at(20));
        assert!(
            second[1..]
                .iter()
                .all(|condition| condition.status == "False")
        );
        assert!(
            second[1..]
                .iter()
                .all(|condition| condition.last_transition_time == at(20))
        );
    }
}
