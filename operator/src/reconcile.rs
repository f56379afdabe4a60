//! One run for one tenant: consent → stamp → apply → status.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use postern_api::entitlement::{EntitlementStatus, Exposed};
use postern_api::instance::{Exposure, ExposureType};
use postern_api::names::{self, InstanceNames};
use postern_api::{GatewayInstance, GatewayInstanceSpec};
use postern_consent::{Consent, RouteFacts, ServiceFacts, consent, is_missing};
use postern_refs::{Key, Object, Snapshot};
use postern_stamp::{Instance, Observed, Stamped as StampedObject, stamp};

use crate::apply::{self, id_of};
use crate::bare::{self, Made};
use crate::entitlement;
use crate::kinds::Stamped;
use crate::live::{Facts, Id, Owner, Seen};
use crate::orphans::Standing;
use crate::problem::Problem;
use crate::queue::Outcome;
use crate::shared::{Shared, Surroundings, Tenant};
use crate::status::{self, Wanted};
use crate::trust;

/// When to look again for what is on its way out.
const SOON: Duration = Duration::from_secs(1);
/// When to look whether an instance that was made is there.
const MADE: Duration = Duration::from_secs(5);

/// One run for the tenant of this key, whether or not its instance is there. A namespace has one run
/// at a time.
pub async fn run(
    shared: &Shared,
    snapshot: &Snapshot,
    around: &Surroundings,
    key: &Key,
) -> Outcome {
    shared.live().run_begins(&key.namespace);
    let outcome = run_once(shared, snapshot, around, key).await;
    shared.live().run_ends(&key.namespace);
    outcome
}

async fn run_once(
    shared: &Shared,
    snapshot: &Snapshot,
    around: &Surroundings,
    key: &Key,
) -> Outcome {
    let Some(instance) = snapshot.instances.get(key) else {
        return absent(shared, snapshot, key).await;
    };
    let uid = &*instance.meta.uid;
    shared.note_unmade(key, None);
    let mut tenant = shared.tenant(key);
    let swept = sweep(shared, key, Some(uid)).await;
    let mut problems: Vec<Problem> = swept.err().into_iter().collect();
    let owned = bare::keep_owners(shared, snapshot, key, uid, &mut tenant).await;
    problems.extend(owned.err());
    let wanted = present(
        shared,
        snapshot,
        around,
        instance,
        &mut tenant,
        &mut problems,
    )
    .await;
    let unreachable = problems.iter().any(|problem| problem.reason().is_none());
    // After a run that could not be ended, nothing is known that is worth a status.
    if let Some(wanted) = wanted.filter(|_| !unreachable)
        && tenant.written.as_ref() != Some(&wanted)
    {
        match status::write(shared, key, &wanted, Time(Timestamp::now())).await {
            Ok(news) => {
                shared.events.tell(key, &wanted.uid, news).await;
                tenant.written = Some(wanted);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let due = due(shared, &tenant);
    shared.remember(key, Some(tenant));
    match (outcome(key, &problems), due) {
        (Outcome::Settled, Some(due)) => Outcome::Later(due),
        (outcome, _) => outcome,
    }
}

/// When to look again, though nothing that is watched changes: an exposure has gone on for long
/// enough, or authorities that routers are told may be others.
fn due(shared: &Shared, tenant: &Tenant) -> Option<Duration> {
    let linger = shared.installation.linger;
    let left = tenant.left.values().min();
    let left = left.map(|since| linger.saturating_sub(since.elapsed()));
    let reencrypts = tenant
        .contract
        .as_ref()
        .is_some_and(EntitlementStatus::reencrypts);
    let trust = reencrypts.then_some(match tenant.trust {
        Some(_) => trust::RECHECK,
        None => trust::SOON,
    });
    left.into_iter().chain(trust).min()
}

/// A run for an instance that is not there: nothing of it stays, and where bare Gateways need it, it
/// is made.
async fn absent(shared: &Shared, snapshot: &Snapshot, key: &Key) -> Outcome {
    if let Err(problem) = sweep(shared, key, None).await {
        return outcome(key, &[problem]);
    }
    shared.remember(key, None);
    shared.note_refusal(key, None);
    match bare::make(shared, snapshot, key).await {
        Ok(Made::NotNeeded) => Outcome::Gone,
        // Their Gateways say so. They keep their place in the queue, and its pause.
        Ok(Made::NotAllowed) => Outcome::Settled,
        // It may be gone before any Snapshot has it.
        Ok(Made::There) => Outcome::Later(MADE),
        Err(problem) => outcome(key, &[problem]),
    }
}

fn outcome(key: &Key, problems: &[Problem]) -> Outcome {
    let Some(first) = problems.first() else {
        return Outcome::Settled;
    };
    // When it comes, every tenant gets another run.
    if problems
        .iter()
        .all(|problem| *problem == Problem::GatewayApiAbsent)
    {
        return Outcome::Settled;
    }
    let leaving = |problem: &Problem| matches!(problem, Problem::Leaving { .. });
    if problems.iter().all(leaving) {
        return Outcome::Later(SOON);
    }
    tracing::warn!(instance = %key, problems = problems.len(), first = %first, "to be tried again");
    Outcome::Failed
}

/// A run for an instance that is there. Returns its status; `None` while too little is known.
async fn present(
    shared: &Shared,
    snapshot: &Snapshot,
    around: &Surroundings,
    object: &Object<GatewayInstanceSpec>,
    tenant: &mut Tenant,
    problems: &mut Vec<Problem>,
) -> Option<Wanted> {
    let key = &object.meta.key;
    let uid = &*object.meta.uid;
    let settings = shared.settings(around)?;
    let name = InstanceNames::new(&key.name).entitlement();
    let recorded = shared.live().entitlement(&key.namespace, &name);
    // Only we can write it: what stands there is the contract, whoever made the object. Without
    // one there is no news, and what was written last holds.
    let recorded = recorded.and_then(|found| found.status.clone());
    let previous = recorded.or_else(|| tenant.contract.clone());
    let exposed = previous.iter().flat_map(|status| &status.exposures);
    let linger = shared.installation.linger;
    // Not within the facts: what is borrowed there is locked until they are whole.
    let routes_served = shared.live().is_served(Stamped::Route);
    let facts = postern_consent::Facts {
        classes: BTreeSet::new(),
        services: services(shared, snapshot, key, uid),
        nodes: shared.nodes(around),
        routes_served,
        routes: routes(shared, key, uid),
        lingering: exposed
            .map(Exposure::way)
            .filter(|way| {
                tenant
                    .left
                    .get(way)
                    .is_none_or(|since| since.elapsed() < linger)
            })
            .collect(),
    };
    let found = consent(snapshot, key, previous.as_ref(), &facts);
    tenant.left.retain(|way, _| found.leaving.contains(way));
    for way in &found.leaving {
        tenant.left.entry(*way).or_insert_with(Instant::now);
    }
    if let Some(refusal) = &found.refusal {
        let news = shared.note_refusal(key, Some(refusal.reason));
        if refusal.revokes() && !is_still_granted(shared, key, uid, &found) {
            let observed = observed(shared, key, uid);
            let before = Instance::of(object, &found.granted)
                .zip(previous)
                .filter(|_| news);
            let named = before.and_then(|(instance, contract)| {
                stamp(&instance, &contract, &settings, &observed).ok()
            });
            problems.extend(revoke(shared, key, uid, &named.unwrap_or_default()).await);
        }
        return Some(Wanted::refused(refusal.reason, &refusal.message, &found));
    }
    let instance = Instance::of(object, &found.granted)?;
    renew_trust(shared, key, &found.entitlement, tenant).await;
    let observed = || Observed {
        trust: tenant.trust.clone(),
        ..observed(shared, key, uid)
    };
    let given = observed();
    let first = stamp(&instance, &found.entitlement, &settings, &given);
    let objects = match first {
        // Envoys are told the address of the control plane's Service: with that Service first,
        // they need not be rolled as soon as they are up.
        Ok(objects) if given.control_plane.is_none() => {
            let name = InstanceNames::new(&key.name).control_plane();
            let mut services = objects.iter();
            let service = services.find(|object| {
                object.key.kind == Stamped::Service.kind() && object.key.name == name
            });
            if let Some(service) = service {
                // What goes wrong shows when it is applied with all others.
                let _ = apply::apply(shared, service, uid).await;
            }
            stamp(&instance, &found.entitlement, &settings, &observed())
        }
        first => first,
    };
    match objects {
        Ok(objects) => {
            shared.note_refusal(key, None);
            tenant.contract = Some(found.entitlement.clone());
            let kept: BTreeSet<Id> =
                waiting(key, &found.entitlement, tenant.trust.as_deref()).collect();
            let contract = &found.entitlement;
            problems.extend(stamped(shared, &objects, contract, kept, key, uid).await);
            let deployments = deployments(shared, &objects);
            Some(Wanted::stamped(&found, problems, &deployments))
        }
        Err(refused) => {
            shared.note_refusal(key, Some(refused.reason));
            let nothing = Consent {
                addresses: Vec::new(),
                ..found
            };
            Some(Wanted::refused(
                refused.reason,
                &refused.to_string(),
                &nothing,
            ))
        }
    }
}

/// What the cluster gave to the Services of the namespace's Gateways, as far as they are this
/// instance's.
fn services(
    shared: &Shared,
    snapshot: &Snapshot,
    key: &Key,
    uid: &str,
) -> BTreeMap<Key, ServiceFacts> {
    let live = shared.live();
    let first = key.sibling(key.namespace.clone(), "");
    let gateways = snapshot.gateways.range(first..).map(|(gateway, _)| gateway);
    gateways
        .take_while(|gateway| gateway.source == key.source && gateway.namespace == key.namespace)
        .filter_map(|gateway| {
            let id = Id {
                namespace: key.namespace.to_string(),
                kind: Stamped::Service,
                name: names::gateway_service(&gateway.name),
            };
            let seen = live.get(&id).filter(|seen| owned(seen, uid))?;
            let Facts::Service {
                cluster_ips,
                node_ports,
                load_balancer,
                ..
            } = &seen.facts
            else {
                return None;
            };
            let facts = ServiceFacts {
                cluster_ips: cluster_ips.clone(),
                node_ports: node_ports.clone(),
                load_balancer: load_balancer.clone(),
            };
            Some((gateway.clone(), facts))
        })
        .collect()
}

/// What routers said about the Routes of the namespace that are this instance's.
fn routes(shared: &Shared, key: &Key, uid: &str) -> BTreeMap<Key, RouteFacts> {
    let live = shared.live();
    let all = live.in_namespace(&key.namespace);
    all.filter(|(_, seen)| owned(seen, uid))
        .filter_map(|(id, seen)| match &seen.facts {
            Facts::Route(route) => {
                let key = key.sibling(key.namespace.clone(), id.name.as_str());
                Some((key, route.clone()))
            }
            _ => None,
        })
        .collect()
}

fn owned(seen: &Seen, uid: &str) -> bool {
    seen.owners.iter().any(|owner| owner.uid == uid)
}

/// Whether what serves now is of an exposure that is granted, and only what is asked for is not:
/// that is a mistake of the tenant's, which takes nothing away.
fn is_still_granted(shared: &Shared, key: &Key, uid: &str, found: &Consent) -> bool {
    let live = shared.live();
    let outside: BTreeSet<ExposureType> = live
        .in_namespace(&key.namespace)
        .filter(|(_, seen)| owned(seen, uid))
        .filter_map(|(_, seen)| match &seen.facts {
            Facts::Service { kind, .. } => *kind,
            Facts::Route(_) => Some(ExposureType::Route),
            _ => None,
        })
        // The control plane's Service is a ClusterIP whatever is granted.
        .filter(|kind| *kind != ExposureType::ClusterIP)
        .collect();
    let granted = |exposure: &ExposureType| found.granted.exposures.contains(exposure);
    match outside.is_empty() {
        true => granted(&ExposureType::ClusterIP),
        false => outside.iter().all(granted),
    }
}

/// The address of the control plane's Service, once it is there.
fn observed(shared: &Shared, key: &Key, uid: &str) -> Observed {
    let id = Id {
        namespace: key.namespace.to_string(),
        kind: Stamped::Service,
        name: InstanceNames::new(&key.name).control_plane(),
    };
    let live = shared.live();
    let seen = live.get(&id).filter(|seen| owned(seen, uid));
    let address = seen.and_then(|seen| match &seen.facts {
        Facts::Service { cluster_ips, .. } => cluster_ips.first().copied(),
        _ => None,
    });
    Observed {
        control_plane: address,
        trust: None,
    }
}

/// Reads whom routers are to believe, where one speaks TLS to the instance. What is not to be read
/// leaves what is known.
async fn renew_trust(
    shared: &Shared,
    key: &Key,
    contract: &EntitlementStatus,
    tenant: &mut Tenant,
) {
    if !contract.reencrypts() {
        tenant.trust = None;
        return;
    }
    match trust::read(shared, key).await {
        Ok(Some(text)) => tenant.trust = Some(text),
        Ok(None) => {}
        // The right to read it may be of this very moment.
        Err(error) => tracing::debug!(instance = %key, %error, "no published authorities"),
    }
}

/// Routes that are claimed, and wait for [`crate::trust`]: after a restart of ours those that are there
/// serve on meanwhile.
fn waiting<'a>(
    key: &'a Key,
    contract: &'a EntitlementStatus,
    trust: Option<&str>,
) -> impl Iterator<Item = Id> + 'a {
    let waits = trust.is_none();
    let gateways = contract.gateways.iter().filter(move |_| waits);
    gateways.flat_map(|gateway| {
        let claims = gateway.routes.iter();
        claims
            .filter(|claim| claim.exposure == Exposed::RouterReencrypt)
            .map(|claim| Id {
                namespace: key.namespace.to_string(),
                kind: Stamped::Route,
                name: names::route(&gateway.name, &claim.host),
            })
    })
}

/// Makes the cluster hold what was stamped and no more of the instance's. Each object is tried,
/// whatever became of the others, but no pod is started without what limits it. Those of `wanted` are
/// left as they are.
async fn stamped(
    shared: &Shared,
    objects: &[StampedObject],
    contract: &EntitlementStatus,
    mut wanted: BTreeSet<Id>,
    key: &Key,
    uid: &str,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut unlimited = false;
    let gateways_served = shared.live().is_served(Stamped::Gateway);
    if !gateways_served {
        problems.push(Problem::GatewayApiAbsent);
    }
    for object in objects {
        let kind = object.key.kind.as_str();
        if !gateways_served && kind == Stamped::Gateway.kind() {
            continue;
        }
        if unlimited && kind == Stamped::Deployment.kind() {
            continue;
        }
        let done = match kind {
            "Entitlement" => match serde_json::from_value(object.object["metadata"].clone()) {
                Ok(meta) => entitlement::keep(shared, &meta, contract).await,
                Err(error) => Err(Problem::WriteRefused {
                    what: format!("Entitlement of {key}"),
                    answer: error.to_string(),
                }),
            },
            _ => apply::apply(shared, object, uid).await,
        };
        if let Err(problem) = done {
            unlimited |= matches!(kind, "NetworkPolicy" | "ServiceAccount");
            problems.push(problem);
        }
    }
    wanted.extend(objects.iter().filter_map(id_of));
    problems.extend(
        prune(shared, key, |id, seen| {
            owned(seen, uid) && !wanted.contains(id)
        })
        .await,
    );
    problems
}

/// The Deployments among what was stamped, as they are now.
fn deployments(shared: &Shared, objects: &[StampedObject]) -> Vec<(String, Option<Facts>)> {
    let live = shared.live();
    let ids = objects.iter().filter_map(id_of);
    ids.filter(|id| id.kind == Stamped::Deployment)
        .map(|id| {
            (
                id.name.clone(),
                live.get(&id).map(|seen| seen.facts.clone()),
            )
        })
        .collect()
}

/// Deletes the objects of the tenant's namespace that this picks.
async fn prune(shared: &Shared, key: &Key, pick: impl Fn(&Id, &Seen) -> bool) -> Vec<Problem> {
    let picked: Vec<(Id, Seen)> = {
        let live = shared.live();
        let all = live.in_namespace(&key.namespace);
        all.filter(|(id, seen)| pick(id, seen))
            .map(|(id, seen)| (id.clone(), seen.clone()))
            .collect()
    };
    let mut problems = Vec::new();
    for (id, seen) in &picked {
        problems.extend(apply::prune(shared, id, seen).await.err());
    }
    problems
}

/// Takes away everything of an instance whose grant was taken away. `named` is what was stamped
/// before: objects among it that lost our label are seen by no watch, and are asked for by name.
async fn revoke(shared: &Shared, key: &Key, uid: &str, named: &[StampedObject]) -> Vec<Problem> {
    let mut problems = prune(shared, key, |_, seen| owned(seen, uid)).await;
    for id in named.iter().filter_map(id_of) {
        problems.extend(apply::remove_if_ours(shared, &id, uid).await.err());
    }
    let name = InstanceNames::new(&key.name).entitlement();
    let contract = shared.live().entitlement(&key.namespace, &name);
    if let Some(contract) = contract {
        problems.extend(entitlement::delete(shared, &contract).await.err());
    }
    problems
}

/// Deletes what carries the UID of an instance of this name that is gone. Garbage collection does
/// that too; this is for what it cannot know of: an Entitlement that lost its owner, and later
/// what stands in other namespaces. `uid` is that of the instance that is there now.
async fn sweep(shared: &Shared, key: &Key, uid: Option<&str>) -> Result<(), Problem> {
    let stale =
        |owner: &Owner, there: Option<&str>| owner.name == *key.name && Some(&*owner.uid) != there;
    let left = |there: Option<&str>| {
        let live = shared.live();
        let mut objects = live.in_namespace(&key.namespace);
        objects.any(|(_, seen)| seen.owners.iter().any(|owner| stale(owner, there)))
    };
    let name = InstanceNames::new(&key.name).entitlement();
    let contract = match uid {
        // It is kept, whoever owns it.
        Some(_) => None,
        None => shared.live().entitlement(&key.namespace, &name),
    };
    if !left(uid) && contract.is_none() {
        return Ok(());
    }
    // The Snapshot may be behind: ask before anything goes.
    let there = uid_now(shared, key).await?;
    if let Some(contract) = contract.filter(|_| there.is_none()) {
        entitlement::delete(shared, &contract).await?;
    }
    let there = there.as_deref();
    let gone = |seen: &Seen| {
        let all_stale = seen.owners.iter().all(|owner| stale(owner, there));
        all_stale && !seen.owners.is_empty()
    };
    match prune(shared, key, |_, seen| gone(seen))
        .await
        .into_iter()
        .next()
    {
        Some(problem) => Err(problem),
        None if there != uid => Err(Problem::Leaving {
            what: format!("GatewayInstance {key}"),
        }),
        None => Ok(()),
    }
}

/// The UID of the instance of this key as the API server has it now.
async fn uid_now(shared: &Shared, key: &Key) -> Result<Option<String>, Problem> {
    let resource = ApiResource::erase::<GatewayInstance>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(shared.client.clone(), &key.namespace, &resource);
    match api.get_metadata_opt(&key.name).await {
        Ok(found) => Ok(found.and_then(|found| found.metadata.uid)),
        Err(error) => Err(Problem::of(&format!("GatewayInstance {key}"), &error)),
    }
}

/// The tenants of a namespace: its instances, those that are gone but left something, and the one
/// that bare Gateways need.
#[must_use]
pub fn tenants_of(shared: &Shared, snapshot: &Snapshot, namespace: &str) -> BTreeSet<Key> {
    let first = Key::new(namespace, "");
    let there = snapshot
        .instances
        .range(first.clone()..)
        .map(|(key, _)| key.clone());
    let mut tenants: BTreeSet<Key> = there
        .take_while(|key| *key.namespace == *namespace)
        .collect();
    let default = Key::new(namespace, postern_api::DEFAULT_INSTANCE);
    let facts = bare::facts(shared);
    if is_missing(snapshot, &default, &facts) || shared.unmade(&default).is_some() {
        tenants.insert(default);
    }
    let live = shared.live();
    for (_, seen) in live.in_namespace(namespace) {
        let owners = seen.owners.iter();
        tenants.extend(owners.map(|owner| Key::new(namespace, owner.name.as_str())));
    }
    for contract in live.entitlements_in(namespace) {
        let named = contract
            .status
            .as_ref()
            .map(|status| &*status.instance.name);
        tenants.extend(named.map(|name| Key::new(namespace, name)));
    }
    tenants
}

/// How it stands with an instance, as far as its Gateways' statuses need it.
#[must_use]
pub fn standing(shared: &Shared, snapshot: &Snapshot, key: &Key) -> Standing {
    let control_plane = Id {
        namespace: key.namespace.to_string(),
        kind: Stamped::Deployment,
        name: InstanceNames::new(&key.name).control_plane(),
    };
    if shared.live().get(&control_plane).is_some() {
        return Standing::Served;
    }
    match snapshot.instances.contains_key(key) {
        true => shared
            .refusal(key)
            .map_or(Standing::Served, Standing::Refused),
        false => Standing::Absent(shared.unmade(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_served_is_waited_for_and_not_tried_again() {
        let key = Key::new("n", "i");
        let refused = || Problem::WriteRefused {
            what: "Service n/s".into(),
            answer: "no".into(),
        };
        assert_eq!(outcome(&key, &[]), Outcome::Settled);
        assert_eq!(
            outcome(&key, &[Problem::GatewayApiAbsent]),
            Outcome::Settled
        );
        let both = [Problem::GatewayApiAbsent, refused()];
        assert_eq!(outcome(&key, &both), Outcome::Failed);
    }
}
