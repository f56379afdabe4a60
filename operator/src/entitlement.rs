//! Keeps an instance's Entitlement.
//!
//! Nobody else makes this kind, but tenants may write all of it except its status. So one of the
//! computed name is ours whatever its metadata says: labels, owner, annotations and finalizers
//! are put back whole, and one that was deleted is made again with the contract that it had.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use postern_api::Entitlement;
use postern_api::entitlement::{EntitlementSpec, EntitlementStatus};

use crate::apply::FIELD_MANAGER;
use crate::problem::Problem;
use crate::shared::Shared;

/// How often a write is tried when others write the same object.
const TRIES: usize = 4;

/// Whether an Entitlement has the metadata that it should have, and no more.
fn is_whole(desired: &ObjectMeta, live: &ObjectMeta) -> bool {
    let none = |map: &Option<std::collections::BTreeMap<String, String>>| {
        map.as_ref()
            .is_none_or(std::collections::BTreeMap::is_empty)
    };
    live.labels == desired.labels
        && live.owner_references == desired.owner_references
        && none(&live.annotations)
        && live.finalizers.as_ref().is_none_or(Vec::is_empty)
        && live.deletion_timestamp.is_none()
}

/// The metadata put back whole: only what identifies the object and its version stays.
fn put_back(desired: &ObjectMeta, live: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        uid: live.uid.clone(),
        resource_version: live.resource_version.clone(),
        ..desired.clone()
    }
}

/// Makes the Entitlement be there with this metadata and status.
///
/// # Errors
/// If the API server refuses or cannot be reached; [`Problem::Leaving`] while one that somebody
/// deleted is still there.
pub async fn keep(
    shared: &Shared,
    desired: &ObjectMeta,
    status: &EntitlementStatus,
) -> Result<(), Problem> {
    let name = desired.name.clone().unwrap_or_default();
    let namespace = desired.namespace.clone().unwrap_or_default();
    let what = format!("Entitlement {namespace}/{name}");
    let seen = shared.live().entitlement(&namespace, &name);
    if seen.is_some_and(|seen| is_right(&seen, desired, status)) {
        return Ok(());
    }
    let api: Api<Entitlement> = Api::namespaced(shared.client.clone(), &namespace);
    for _ in 0..TRIES {
        match step(shared, &api, &name, desired, status).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_not_found() || status.is_already_exists() => {}
            Err(error) => return Err(Problem::of(&what, &error)),
        }
    }
    let leaving = shared.live().entitlement(&namespace, &name);
    match leaving.is_some_and(|found| found.metadata.deletion_timestamp.is_some()) {
        true => Err(Problem::Leaving { what }),
        false => Err(Problem::Unreachable {
            what,
            answer: "others write it all the time".into(),
        }),
    }
}

fn is_right(found: &Entitlement, desired: &ObjectMeta, status: &EntitlementStatus) -> bool {
    is_whole(desired, &found.metadata) && found.status.as_ref() == Some(status)
}

/// One step nearer; whether it was the last.
async fn step(
    shared: &Shared,
    api: &Api<Entitlement>,
    name: &str,
    desired: &ObjectMeta,
    status: &EntitlementStatus,
) -> kube::Result<bool> {
    let ours = PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.into()),
    };
    let Some(mut found) = api.get_opt(name).await? else {
        let fresh = Entitlement {
            metadata: desired.clone(),
            spec: EntitlementSpec::default(),
            status: None,
        };
        api.create(&ours, &fresh).await?;
        tracing::info!(entitlement = name, namespace = ?desired.namespace, "created");
        return Ok(false);
    };
    if !is_whole(desired, &found.metadata) {
        found.metadata = put_back(desired, &found.metadata);
        // One that is being deleted, held by somebody's finalizer, goes by this.
        let kept = api.replace(name, &ours, &found).await?;
        tracing::info!(entitlement = name, namespace = ?desired.namespace, "put back");
        shared.live().verified_entitlement(kept);
        return Ok(false);
    }
    if found.status.as_ref() != Some(status) {
        found.status = Some(status.clone());
        found = api.replace_status(name, &ours, &found).await?;
    }
    shared.live().verified_entitlement(found);
    Ok(true)
}

/// Deletes an Entitlement whose instance is gone or was refused.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn delete(shared: &Shared, found: &Arc<Entitlement>) -> Result<(), Problem> {
    let meta = &found.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let api: Api<Entitlement> = Api::namespaced(shared.client.clone(), namespace);
    let just_this = DeleteParams::background().preconditions(Preconditions {
        resource_version: None,
        uid: meta.uid.clone(),
    });
    match api.delete(name, &just_this).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => {
            return Err(Problem::of(
                &format!("Entitlement {namespace}/{name}"),
                &error,
            ));
        }
    }
    shared.live().delete_entitlement(found);
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    fn desired() -> ObjectMeta {
        ObjectMeta {
            name: Some("e".into()),
            namespace: Some("n".into()),
            labels: Some([("a".to_owned(), "b".to_owned())].into()),
            owner_references: Some(vec![OwnerReference {
                uid: "i".into(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn whatever_was_done_to_its_metadata_is_put_back_whole() {
        let live = ObjectMeta {
            uid: Some("u".into()),
            resource_version: Some("7".into()),
            ..desired()
        };
        assert!(is_whole(&desired(), &live));
        let text = |text: &str| Some([(text.to_owned(), text.to_owned())].into());
        let spoiled = [
            ObjectMeta {
                owner_references: None,
                ..live.clone()
            },
            ObjectMeta {
                labels: None,
                ..live.clone()
            },
            ObjectMeta {
                labels: text("more"),
                ..live.clone()
            },
            ObjectMeta {
                annotations: text("note"),
                ..live.clone()
            },
            ObjectMeta {
                finalizers: Some(vec!["x.example/y".into()]),
                ..live.clone()
            },
        ];
        for spoiled in spoiled {
            assert!(!is_whole(&desired(), &spoiled), "{spoiled:?}");
            let back = put_back(&desired(), &spoiled);
            assert!(is_whole(&desired(), &back));
            assert_eq!(
                (back.uid, back.resource_version),
                (Some("u".into()), Some("7".into()))
            );
        }
    }
}
