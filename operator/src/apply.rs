//! Makes the cluster hold what was stamped, and nothing of its name that is not ours.
//!
//! An object is created by POST, or read, compared, and replaced whole with its
//! `resourceVersion`: a forced server-side apply would leave a foreign sidecar in place. What is
//! there and not ours is never adopted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, PostParams, Preconditions};
use postern_stamp::labels;
use serde_json::{Map, Value};

use crate::compare;
use crate::kinds::Stamped;
use crate::live::{Id, Seen};
use crate::problem::Problem;
use crate::shared::Shared;

/// The field manager of everything that the operator writes.
pub const FIELD_MANAGER: &str = "postern-operator";

/// How often a write is tried when others write the same object.
const TRIES: usize = 4;

/// What to do about an object that exists.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// It is not ours.
    Foreign,
    /// It is on its way out.
    Leaving,
    /// It is as it should be.
    Right,
    /// It must be made anew: a field that cannot be changed differs.
    Anew,
    /// This may have to be written in its place.
    Replace {
        /// The object as it should be, with the `resourceVersion` that was read.
        with: Box<DynamicObject>,
        /// Whether it is certain that it differs. If not, a dry run tells.
        certain: bool,
        /// What differs.
        because: String,
    },
}

/// Whether an object was stamped by us for the instance of this UID: it has that owner, and our
/// mark. A tenant can forge both, on objects of its own namespace, and gains nothing: they are
/// replaced whole.
#[must_use]
pub fn is_ours(meta: &ObjectMeta, uid: &str) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    let mut managers = meta.managed_fields.iter().flatten();
    let label = meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get(labels::MANAGED_BY));
    owners.any(|owner| owner.uid == uid)
        && (label.is_some_and(|value| value == labels::MANAGER)
            || managers.any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER)))
}

/// Decides about an object that exists.
#[must_use]
pub fn plan(kind: Stamped, desired: &DynamicObject, live: &DynamicObject, uid: &str) -> Plan {
    if !is_ours(&live.metadata, uid) {
        return Plan::Foreign;
    }
    if live.metadata.deletion_timestamp.is_some() {
        return Plan::Leaving;
    }
    let empty = Map::new();
    let live_fields = live.data.as_object().unwrap_or(&empty);
    let mut wanted = desired.data.as_object().cloned().unwrap_or_default();
    compare::keep_allowed(kind.kind(), &mut wanted, live_fields);
    if kind == Stamped::RoleBinding && wanted.get("roleRef") != live_fields.get("roleRef") {
        return Plan::Anew;
    }
    let metadata = merged(&desired.metadata, &live.metadata);
    let doubt = compare::same(&wanted, &compare::content(kind.kind(), live_fields));
    let certain = metadata != live.metadata;
    let because = match (certain, doubt) {
        (false, Ok(())) => return Plan::Right,
        (true, _) => "metadata".to_owned(),
        (false, Err(path)) => path,
    };
    let mut data: Map<String, Value> = live_fields
        .iter()
        .filter(|(key, _)| !compare::is_content(kind.kind(), key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    data.extend(wanted);
    Plan::Replace {
        with: Box::new(DynamicObject {
            types: desired.types.clone(),
            metadata,
            data: Value::Object(data),
        }),
        certain,
        because,
    }
}

/// The metadata that an object should have: our labels, annotations and owner, beside whatever
/// other labels and annotations are there. A second owner would keep it alive after ours is gone.
fn merged(desired: &ObjectMeta, live: &ObjectMeta) -> ObjectMeta {
    let mut merged = live.clone();
    if let Some(labels) = &desired.labels {
        merged.labels.get_or_insert_default().extend(labels.clone());
    }
    if let Some(annotations) = &desired.annotations {
        merged
            .annotations
            .get_or_insert_default()
            .extend(annotations.clone());
    }
    merged
        .owner_references
        .clone_from(&desired.owner_references);
    merged
}

fn writing(dry_run: bool) -> PostParams {
    PostParams {
        dry_run,
        field_manager: Some(FIELD_MANAGER.into()),
    }
}

/// The key of a stamped object; `None` for kinds that are kept in another way.
#[must_use]
pub fn id_of(stamped: &postern_stamp::Stamped) -> Option<Id> {
    let key = &stamped.key;
    Some(Id {
        namespace: key.namespace.clone(),
        kind: Stamped::find(&key.api_version, &key.kind)?,
        name: key.name.clone(),
    })
}

/// Makes one object be there as it was stamped, for the instance of this UID.
///
/// # Errors
/// If the name is taken, or the API server refuses or cannot be reached.
pub async fn apply(
    shared: &Shared,
    stamped: &postern_stamp::Stamped,
    uid: &str,
) -> Result<(), Problem> {
    let what = format!(
        "{} {}/{}",
        stamped.key.kind, stamped.key.namespace, stamped.key.name
    );
    let refused = |answer: String| Problem::WriteRefused {
        what: what.clone(),
        answer,
    };
    let Some(id) = id_of(stamped) else {
        return Err(refused("this operator does not stamp the kind".into()));
    };
    let digest = shared.live().digest(&stamped.object.to_string());
    if shared.live().is_verified(&id, digest) {
        return Ok(());
    }
    let desired: DynamicObject = serde_json::from_value(stamped.object.clone())
        .map_err(|error| refused(error.to_string()))?;
    let api = api(shared, &id);
    let mut known = shared.live().get(&id).is_some();
    for _ in 0..TRIES {
        let existing = match known {
            true => api
                .get_opt(&id.name)
                .await
                .map_err(|error| Problem::of(&id, &error))?,
            false => None,
        };
        let Some(existing) = existing else {
            match api.create(&writing(false), &desired).await {
                Ok(created) => {
                    tracing::info!(object = %id, "created");
                    shared.live().verified(id.kind, &created, digest);
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.is_already_exists() => known = true,
                Err(error) => return Err(Problem::of(&id, &error)),
            }
            continue;
        };
        match plan(id.kind, &desired, &existing, uid) {
            Plan::Foreign => {
                return Err(Problem::NameInUse {
                    what: id.to_string(),
                });
            }
            Plan::Leaving => {
                return Err(Problem::Leaving {
                    what: id.to_string(),
                });
            }
            Plan::Right => {
                shared.live().verified(id.kind, &existing, digest);
                return Ok(());
            }
            Plan::Anew => {
                delete(shared, &id, existing.metadata.uid.as_deref()).await?;
                known = false;
            }
            Plan::Replace {
                with,
                certain,
                because,
            } => {
                match replace(&api, &id, &existing, &with, certain).await {
                    Ok(Some(written)) => {
                        tracing::info!(object = %id, because, "put back");
                        shared.live().verified(id.kind, &written, digest);
                        return Ok(());
                    }
                    Ok(None) => {
                        shared.live().verified(id.kind, &existing, digest);
                        return Ok(());
                    }
                    // Somebody was faster, or it is gone: look again.
                    Err(kube::Error::Api(status))
                        if status.is_conflict() || status.is_not_found() => {}
                    Err(error) => return Err(Problem::of(&id, &error)),
                }
            }
        }
    }
    Err(Problem::Unreachable {
        what: id.to_string(),
        answer: "others write it all the time".into(),
    })
}

/// Writes the object, unless a dry run shows that the API server would make of it just what is
/// there.
async fn replace(
    api: &Api<DynamicObject>,
    id: &Id,
    existing: &DynamicObject,
    with: &DynamicObject,
    certain: bool,
) -> kube::Result<Option<DynamicObject>> {
    if !certain {
        let would = api.replace(&id.name, &writing(true), with).await?;
        if let (Value::Object(would), Value::Object(existing)) = (&would.data, &existing.data)
            && compare::equal(id.kind.kind(), would, existing)
        {
            return Ok(None);
        }
    }
    api.replace(&id.name, &writing(false), with).await.map(Some)
}

/// Deletes an object that was stamped before and is no longer.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn prune(shared: &Shared, id: &Id, seen: &Seen) -> Result<(), Problem> {
    delete(shared, id, Some(&seen.uid)).await?;
    tracing::info!(object = %id, "pruned");
    Ok(())
}

/// Deletes an object by name, if it is ours for the instance of this UID.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn remove_if_ours(shared: &Shared, id: &Id, uid: &str) -> Result<(), Problem> {
    let api = api(shared, id);
    let found = api
        .get_metadata_opt(&id.name)
        .await
        .map_err(|error| Problem::of(id, &error))?;
    match found.filter(|found| is_ours(&found.metadata, uid)) {
        Some(found) => delete(shared, id, found.metadata.uid.as_deref()).await,
        None => Ok(()),
    }
}

async fn delete(shared: &Shared, id: &Id, uid: Option<&str>) -> Result<(), Problem> {
    let just_this = DeleteParams::background().preconditions(Preconditions {
        resource_version: None,
        uid: uid.map(str::to_owned),
    });
    match api(shared, id).delete(&id.name, &just_this).await {
        Ok(_) => {}
        // Gone, or another one by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => return Err(Problem::of(id, &error)),
    }
    shared.live().forget(id);
    Ok(())
}

fn api(shared: &Shared, id: &Id) -> Api<DynamicObject> {
    Api::namespaced_with(shared.client.clone(), &id.namespace, &id.kind.resource())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).expect("an object")
    }

    fn desired() -> DynamicObject {
        object(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "s", "namespace": "n",
                "labels": {"app.kubernetes.io/managed-by": "postern-operator", "a": "b"},
                "ownerReferences": [{
                    "apiVersion": "postern.dev/v1alpha1", "kind": "GatewayInstance",
                    "name": "default", "uid": "i", "controller": true,
                }],
            },
            "spec": {"ports": [{"port": 80, "protocol": "TCP"}]},
        }))
    }

    fn live() -> DynamicObject {
        let mut live = desired();
        live.metadata.uid = Some("u".into());
        live.metadata.resource_version = Some("5".into());
        live.data["status"] = json!({"loadBalancer": {}});
        live.data["spec"]["clusterIP"] = json!("10.0.0.1");
        live
    }

    fn planned(live: &DynamicObject) -> Plan {
        plan(Stamped::Service, &desired(), live, "i")
    }

    #[test]
    fn what_is_right_is_left_alone() {
        assert_eq!(planned(&live()), Plan::Right);
        let mut more = live();
        more.metadata.annotations = Some([("team".to_owned(), "x".to_owned())].into());
        assert_eq!(planned(&more), Plan::Right);
    }

    #[test]
    fn nothing_is_adopted_by_name_label_or_manager_alone() {
        let mut another = live();
        another.metadata.owner_references.as_mut().expect("owners")[0].uid = "other".into();
        assert_eq!(planned(&another), Plan::Foreign);
        let mut none = live();
        none.metadata.owner_references = None;
        assert_eq!(planned(&none), Plan::Foreign);
        let mut unmarked = live();
        unmarked.metadata.labels = None;
        assert_eq!(planned(&unmarked), Plan::Foreign);
        // Written by us, and somebody took the label away: put back.
        unmarked.metadata.managed_fields = Some(
            serde_json::from_value(json!([{"manager": "postern-operator", "operation": "Update"}]))
                .expect("managed fields"),
        );
        assert!(matches!(
            planned(&unmarked),
            Plan::Replace { certain: true, .. }
        ));
    }

    #[test]
    fn a_replacement_is_whole_and_keeps_what_is_not_ours() {
        let mut drifted = live();
        drifted.data["spec"]["externalIPs"] = json!(["192.0.2.1"]);
        drifted.metadata.annotations = Some([("team".to_owned(), "x".to_owned())].into());
        let mut second = drifted.metadata.owner_references.clone().expect("owners");
        second.push(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
                uid: "second".into(),
                ..second[0].clone()
            },
        );
        drifted.metadata.owner_references = Some(second);
        let Plan::Replace { with, certain, .. } = planned(&drifted) else {
            panic!("a replacement");
        };
        assert!(certain);
        assert_eq!(with.data["spec"], desired().data["spec"]);
        assert_eq!(with.data["status"], drifted.data["status"]);
        assert_eq!(with.metadata.resource_version.as_deref(), Some("5"));
        assert_eq!(with.metadata.annotations, drifted.metadata.annotations);
        assert_eq!(
            with.metadata.owner_references,
            desired().metadata.owner_references
        );
    }

    #[test]
    fn a_field_in_doubt_is_asked_about() {
        let mut drifted = live();
        drifted.data["spec"]["externalIPs"] = json!(["192.0.2.1"]);
        let Plan::Replace {
            certain, because, ..
        } = planned(&drifted)
        else {
            panic!("a replacement");
        };
        assert_eq!((certain, &*because), (false, ".spec.externalIPs"));
    }

    #[test]
    fn what_leaves_is_awaited_and_a_binding_to_another_role_is_made_anew() {
        let mut leaving = live();
        leaving.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
        assert_eq!(planned(&leaving), Plan::Leaving);
        let mut binding = desired();
        binding.data = json!({"roleRef": {"name": "a"}, "subjects": []});
        let mut other = binding.clone();
        other.data["roleRef"]["name"] = json!("admin");
        assert_eq!(
            plan(Stamped::RoleBinding, &binding, &other, "i"),
            Plan::Anew
        );
    }
}
