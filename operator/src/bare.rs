//! Gateways that name no instance, where there is none: one is made from a TenantGrant's template.
//!
//! It is made by POST and never written again: what its tenant does with it stays, and one that was
//! there before is left alone. It is owned by the Gateways that it is made for. Those that come later
//! are added, so that it does not go with the first ones. To own is only to keep alive: an owner more
//! lets nothing go sooner, so that whoever forges our mark on an instance gains nothing.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use postern_api::{GATEWAY_GROUP, GatewayInstance};
use postern_consent::{BareGateway, Facts, Missing};
use postern_refs::{Key, Name, Snapshot};
use postern_stamp::{bare, labels};
use serde_json::json;

use crate::apply::FIELD_MANAGER;
use crate::kinds::Stamped;
use crate::problem::Problem;
use crate::shared::{Shared, Tenant};

/// What consent needs to know to say what is made. Not what the cluster gave: there is nothing yet.
#[must_use]
pub fn facts(shared: &Shared) -> Facts {
    Facts {
        routes_served: shared.live().is_served(Stamped::Route),
        ..Facts::default()
    }
}

/// What became of an instance that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// No Gateway needs it.
    NotNeeded,
    /// Gateways need it, and no TenantGrant lets it be made.
    NotAllowed,
    /// It is there now.
    There,
}

/// Makes the instance of this key, if Gateways need it and a TenantGrant lets it be made. What keeps
/// it from being made is noted, for those Gateways to say.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn make(shared: &Shared, snapshot: &Snapshot, key: &Key) -> Result<Made, Problem> {
    let done = match postern_consent::missing(snapshot, key, &facts(shared)) {
        None => Ok(Made::NotNeeded),
        Some(Err(_)) => Ok(Made::NotAllowed),
        Some(Ok(missing)) => create(shared, &missing).await.map(|()| Made::There),
    };
    let refused = done.as_ref().err();
    let refused = refused.filter(|problem| matches!(problem, Problem::WriteRefused { .. }));
    shared.note_unmade(key, refused.cloned());
    done
}

/// Makes an instance. One that is there by now is left alone.
async fn create(shared: &Shared, missing: &Missing) -> Result<(), Problem> {
    let key = &missing.key;
    let what = format!("GatewayInstance {key}");
    let owners = missing.gateways.iter().map(owner).collect();
    let (spec, grant) = (&missing.spec, &missing.grant);
    let stamped = bare::instance(&key.namespace, &key.name, spec, grant, owners);
    let fresh = serde_json::from_value(stamped.object).map_err(|error| Problem::WriteRefused {
        what: what.clone(),
        answer: error.to_string(),
    })?;
    let ours = PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.into()),
    };
    match api(shared, key).create(&ours, &fresh).await {
        Ok(_) => {
            tracing::info!(instance = %key, %grant, "made for Gateways that name none");
            Ok(())
        }
        // The Snapshot was behind: its tenant was faster.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(Problem::of(&what, &error)),
    }
}

/// Makes the bare Gateways of an instance own it, if it was made for such and its tenant left it so.
/// It is asked for once for each set of Gateways.
///
/// # Errors
/// If the API server cannot be reached.
pub async fn keep_owners(
    shared: &Shared,
    snapshot: &Snapshot,
    key: &Key,
    uid: &str,
    tenant: &mut Tenant,
) -> Result<(), Problem> {
    let gateways = postern_consent::bare_gateways(snapshot, key, &facts(shared));
    let uids = gateways.iter().map(|gateway| gateway.uid.clone());
    let looked: (Name, BTreeSet<Name>) = (uid.into(), uids.collect());
    if gateways.is_empty() || tenant.owners.as_ref() == Some(&looked) {
        return Ok(());
    }
    match add_owners(shared, key, uid, &gateways).await {
        // It will be refused again, and to those who look at the instance it is no news.
        Err(problem) if problem.reason().is_some() => {
            tracing::warn!(instance = %key, %problem, "it may go with its first Gateways");
        }
        done => done?,
    }
    tenant.owners = Some(looked);
    Ok(())
}

async fn add_owners(
    shared: &Shared,
    key: &Key,
    uid: &str,
    gateways: &[BareGateway],
) -> Result<(), Problem> {
    let problem = |error: &kube::Error| Problem::of(&format!("GatewayInstance {key}"), error);
    let api = api(shared, key);
    let found = api.get_metadata_opt(&key.name).await;
    let Some(found) = found.map_err(|error| problem(&error))? else {
        return Ok(());
    };
    let more = lacking(&found.metadata, uid, gateways);
    if more.is_empty() {
        return Ok(());
    }
    let mut steps = vec![json!({"op": "test", "path": "/metadata/uid", "value": uid})];
    steps.extend(
        more.iter().map(
            |owner| json!({"op": "add", "path": "/metadata/ownerReferences/-", "value": owner}),
        ),
    );
    let steps = serde_json::from_value(json!(steps)).map_err(|error| Problem::WriteRefused {
        what: format!("GatewayInstance {key}"),
        answer: error.to_string(),
    })?;
    let ours = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let patched = api
        .patch_metadata(&key.name, &ours, &Patch::<()>::Json(steps))
        .await;
    patched.map_err(|error| problem(&error))?;
    tracing::info!(instance = %key, gateways = more.len(), "more Gateways own it");
    Ok(())
}

/// The Gateways that should own an instance and do not: none, if it was not made for such, or if its
/// tenant took all owners away.
fn lacking(meta: &ObjectMeta, uid: &str, gateways: &[BareGateway]) -> Vec<OwnerReference> {
    let marked = meta
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(labels::MADE_FROM_GRANT));
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let is_gateway = |owner: &OwnerReference| {
        owner.kind == "Gateway" && owner.api_version.split('/').next() == Some(GATEWAY_GROUP)
    };
    if !marked || !owners.iter().any(is_gateway) || meta.uid.as_deref() != Some(uid) {
        return Vec::new();
    }
    let known = |gateway: &&BareGateway| owners.iter().any(|owner| *owner.uid == *gateway.uid);
    let missing = gateways.iter().filter(|gateway| !known(gateway));
    missing.map(owner).collect()
}

fn owner(gateway: &BareGateway) -> OwnerReference {
    bare::owner(&gateway.name, &gateway.uid)
}

fn api(shared: &Shared, key: &Key) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<GatewayInstance>(&());
    Api::namespaced_with(shared.client.clone(), &key.namespace, &resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(name: &str) -> BareGateway {
        BareGateway {
            name: name.into(),
            uid: format!("uid-{name}").into(),
        }
    }

    fn made(owners: &[&str]) -> ObjectMeta {
        let owners: Vec<_> = owners.iter().map(|name| owner(&gateway(name))).collect();
        ObjectMeta {
            uid: Some("i".into()),
            annotations: Some([(labels::MADE_FROM_GRANT.to_owned(), "g".to_owned())].into()),
            owner_references: Some(owners),
            ..ObjectMeta::default()
        }
    }

    fn lacking_names(meta: &ObjectMeta) -> Vec<String> {
        let all = lacking(meta, "i", &[gateway("a"), gateway("b")]);
        all.into_iter().map(|owner| owner.name).collect()
    }

    #[test]
    fn later_gateways_own_what_was_made_for_earlier_ones() {
        assert_eq!(lacking_names(&made(&["a"])), ["b"]);
        assert_eq!(lacking_names(&made(&["a", "b"])), Vec::<String>::new());
        // One that is gone is garbage collection's to take away.
        assert_eq!(lacking_names(&made(&["gone"])), ["a", "b"]);
    }

    #[test]
    fn what_a_tenant_made_or_made_its_own_gets_no_owner() {
        let mut own = made(&[]);
        assert!(lacking_names(&own).is_empty(), "it took the owners away");
        own.owner_references = None;
        assert!(lacking_names(&own).is_empty());
        let mut unmarked = made(&["a"]);
        unmarked.annotations = None;
        assert!(lacking_names(&unmarked).is_empty(), "it took the mark away");
        // Owners of another kind, whatever they are called.
        let mut posing = made(&["a"]);
        for owner in posing.owner_references.iter_mut().flatten() {
            owner.api_version = "gateway.networking.k8s.io.evil.example/v1".into();
        }
        assert!(lacking_names(&posing).is_empty());
        let mut another = made(&["a"]);
        another.uid = Some("another".into());
        assert!(lacking_names(&another).is_empty());
    }
}
