//! Which statuses are to be written, and when. Without clock and network: time is a parameter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use postern_refs::objects::ParentRef;
use postern_refs::status::{RouteStatus, Status, Statuses};
use postern_refs::{Key, Kind};

use crate::door::digest;
use crate::kube::Backoff;
use crate::observed::{Digests, Seen};

/// An object.
pub(super) type Id = (Kind, Key);

/// One write to be done.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) id: Id,
    pub(super) desired: Arc<Status>,
    /// Parents that were ours and are not any more.
    pub(super) withdrawn: Vec<ParentRef>,
    goal: Goal,
}

/// What was wanted and what was seen when a write began: nothing is to be done again before one of
/// the two changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Goal {
    desired: u64,
    /// The change that was seen, not the digest: what was written over is written again.
    change: u64,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was written, was as it should be, or its object is gone.
    Settled,
    /// It failed.
    Failed,
}

#[derive(Debug)]
pub(super) struct Plan {
    /// `None` until something is known: then nothing is taken away either.
    desired: Option<Arc<Statuses>>,
    digests: BTreeMap<Id, u64>,
    withdrawn: BTreeMap<Id, BTreeSet<ParentRef>>,
    settled: BTreeMap<Id, Goal>,
    /// Failures, and when the next try is due.
    failed: BTreeMap<Id, (Backoff, Instant)>,
    busy: BTreeSet<Id>,
    no_entries: Arc<Status>,
    no_entries_digest: u64,
}

impl Plan {
    pub(super) fn new() -> Plan {
        let no_entries = Status::Route(RouteStatus::default());
        Plan {
            desired: None,
            digests: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            settled: BTreeMap::new(),
            failed: BTreeMap::new(),
            busy: BTreeSet::new(),
            no_entries_digest: digest(&no_entries),
            no_entries: Arc::new(no_entries),
        }
    }

    /// Other statuses are wanted.
    pub(super) fn want(&mut self, desired: Arc<Statuses>) {
        let last = self.desired.take().unwrap_or_default();
        let mut digests = BTreeMap::new();
        for (id, status) in &*desired {
            let same = last.get(id).is_some_and(|last| Arc::ptr_eq(last, status));
            let known = self.digests.get(id).filter(|_| same).copied();
            digests.insert(id.clone(), known.unwrap_or_else(|| digest(status)));
        }
        for (id, status) in &*last {
            let Status::Route(route) = &**status else {
                continue;
            };
            if desired.get(id).is_some_and(|now| Arc::ptr_eq(now, status)) {
                continue;
            }
            let parents = route.parents.iter().map(|parent| parent.parent.clone());
            self.withdrawn
                .entry(id.clone())
                .or_default()
                .extend(parents);
        }
        self.withdrawn.retain(|id, parents| {
            if let Some(Status::Route(route)) = desired.get(id).map(|status| &**status) {
                parents.retain(|parent| !route.parents.iter().any(|now| now.parent == *parent));
            }
            !parents.is_empty()
        });
        self.digests = digests;
        self.desired = Some(desired);
    }

    /// Forgets what was settled: another may have written meanwhile.
    pub(super) fn doubt(&mut self) {
        self.settled.clear();
        self.failed.clear();
    }

    /// What is due now, and when something will be that is not yet.
    pub(super) fn due(&mut self, observed: &Digests, now: Instant) -> (Vec<Id>, Option<Instant>) {
        // Deleted objects are forgotten.
        self.settled.retain(|id, _| observed.contains_key(id));
        self.failed.retain(|id, _| observed.contains_key(id));
        self.withdrawn.retain(|id, _| observed.contains_key(id));
        let mut later: Option<Instant> = None;
        let mut due = Vec::new();
        for (id, seen) in observed {
            if self.goal(id, *seen).is_none() || self.busy.contains(id) {
                continue;
            }
            match self.failed.get(id) {
                Some((_, at)) if *at > now => later = Some(later.map_or(*at, |time| time.min(*at))),
                _ => due.push(id.clone()),
            }
        }
        (due, later)
    }

    /// Begins a write if it is still to be done.
    pub(super) fn begin(&mut self, id: Id, seen: Option<Seen>) -> Option<Write> {
        let goal = self.goal(&id, seen?)?;
        if !self.busy.insert(id.clone()) {
            return None;
        }
        let desired = self.desired.as_ref()?.get(&id).unwrap_or(&self.no_entries);
        let withdrawn = self
            .withdrawn
            .get(&id)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        Some(Write {
            desired: Arc::clone(desired),
            withdrawn,
            goal,
            id,
        })
    }

    /// A write has ended.
    pub(super) fn end(&mut self, write: &Write, outcome: Outcome, now: Instant) {
        self.busy.remove(&write.id);
        match outcome {
            Outcome::Settled => {
                self.failed.remove(&write.id);
                self.settled.insert(write.id.clone(), write.goal);
                // What was taken away need not be again, unless it was added meanwhile.
                if let Some(parents) = self.withdrawn.get_mut(&write.id) {
                    parents.retain(|parent| !write.withdrawn.contains(parent));
                }
            }
            Outcome::Failed => {
                let mut backoff = self
                    .failed
                    .remove(&write.id)
                    .map_or_else(Backoff::default, |(backoff, _)| backoff);
                let wait = backoff.next(now);
                self.failed.insert(write.id.clone(), (backoff, now + wait));
            }
        }
    }

    /// What is to be done about an object; `None` if nothing is.
    fn goal(&self, id: &Id, seen: Seen) -> Option<Goal> {
        self.desired.as_ref()?;
        let desired = match self.digests.get(id) {
            Some(digest) => *digest,
            // A route that is none of ours: no entry of ours may be left behind.
            None if id.0 == Kind::HttpRoute => self.no_entries_digest,
            None => return None,
        };
        let goal = Goal {
            desired,
            change: seen.change,
        };
        (seen.digest != Some(desired) && self.settled.get(id) != Some(&goal)).then_some(goal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postern_refs::status::{GatewayStatus, ParentStatus};

    use super::*;

    fn parent(name: &str) -> ParentRef {
        ParentRef {
            group: postern_api::GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: None,
            name: name.into(),
            section: None,
            port: None,
        }
    }

    fn route(parents: &[&str]) -> Arc<Status> {
        let parents = parents.iter().map(|name| ParentStatus {
            parent: parent(name),
            conditions: vec![],
        });
        Arc::new(Status::Route(RouteStatus {
            parents: parents.collect(),
        }))
    }

    fn id(name: &str) -> Id {
        (Kind::HttpRoute, Key::new("n", name))
    }

    fn none() -> Option<u64> {
        Some(digest(&Status::Route(RouteStatus::default())))
    }

    fn seen(change: u64, digest: Option<u64>) -> Seen {
        Seen { digest, change }
    }

    fn plan(wanted: &[(&str, &Arc<Status>)]) -> Plan {
        let mut plan = Plan::new();
        want(&mut plan, wanted);
        plan
    }

    fn want(plan: &mut Plan, wanted: &[(&str, &Arc<Status>)]) {
        plan.want(Arc::new(
            wanted
                .iter()
                .map(|(name, status)| (id(name), Arc::clone(status)))
                .collect(),
        ));
    }

    #[test]
    fn nothing_is_done_before_something_is_wanted() {
        let mut plan = Plan::new();
        let observed = Digests::from([(id("a"), seen(1, Some(7)))]);
        assert_eq!(plan.due(&observed, Instant::now()), (vec![], None));
        // Then what is left of us is taken away: of routes, not of Gateways.
        want(&mut plan, &[]);
        let gateway = (Kind::Gateway, Key::new("n", "a"));
        let observed = Digests::from([
            (id("a"), seen(1, Some(7))),
            (id("b"), seen(2, none())),
            (gateway, seen(3, Some(7))),
        ]);
        assert_eq!(plan.due(&observed, Instant::now()).0, [id("a")]);
    }

    #[test]
    fn what_is_written_is_not_written_again_until_something_changes() {
        let now = Instant::now();
        let wanted = route(&["g"]);
        let mut plan = plan(&[("a", &wanted), ("gone", &wanted)]);
        let mut observed = Digests::from([(id("a"), seen(1, none()))]);
        assert_eq!(plan.due(&observed, now).0, [id("a")]);
        let write = plan.begin(id("a"), Some(seen(1, none()))).expect("a write");
        assert!(Arc::ptr_eq(&write.desired, &wanted));
        assert_eq!(plan.due(&observed, now).0, [], "it is under way");
        assert!(plan.begin(id("a"), Some(seen(1, none()))).is_none());
        plan.end(&write, Outcome::Settled, now);
        assert_eq!(
            plan.due(&observed, now).0,
            [],
            "the watch has not told of it yet"
        );
        observed.insert(id("a"), seen(2, Some(digest(&wanted))));
        assert_eq!(plan.due(&observed, now).0, []);
        // Somebody writes over it.
        observed.insert(id("a"), seen(3, none()));
        assert_eq!(
            plan.due(&observed, now).0,
            [id("a")],
            "as it was at first, but written over"
        );
        observed.insert(id("a"), seen(4, Some(8)));
        assert_eq!(plan.due(&observed, now).0, [id("a")]);
        observed.insert(id("a"), seen(5, None));
        assert_eq!(plan.due(&observed, now).0, [id("a")]);
        assert!(plan.begin(id("gone"), None).is_none());
        assert!(
            plan.begin(id("a"), Some(seen(6, Some(digest(&wanted)))))
                .is_none(),
            "it came right meanwhile"
        );
    }

    #[test]
    fn failures_wait_longer_each_time_and_hold_up_nobody() {
        let start = Instant::now();
        let mut plan = plan(&[("a", &route(&["g"])), ("b", &route(&["g"]))]);
        let observed = Digests::from([(id("a"), seen(1, none())), (id("b"), seen(2, none()))]);
        let write = plan.begin(id("a"), Some(seen(1, none()))).expect("a write");
        plan.end(&write, Outcome::Failed, start);
        let first = start + Duration::from_millis(250);
        assert_eq!(plan.due(&observed, start), (vec![id("b")], Some(first)));
        assert_eq!(plan.due(&observed, first).0, [id("a"), id("b")]);
        let write = plan.begin(id("a"), Some(seen(1, none()))).expect("a write");
        plan.end(&write, Outcome::Failed, first);
        assert_eq!(
            plan.due(&observed, first).1,
            Some(first + Duration::from_millis(500))
        );
        // A leader that takes over tries at once.
        plan.doubt();
        assert_eq!(plan.due(&observed, first).0, [id("a"), id("b")]);
        assert_eq!(plan.due(&Digests::new(), first), (vec![], None));
    }

    #[test]
    fn parents_that_were_ours_are_withdrawn() {
        let now = Instant::now();
        let mut plan = plan(&[("a", &route(&["g", "h"])), ("b", &route(&["g"]))]);
        want(&mut plan, &[("a", &route(&["h"]))]);
        let withdrawn = |write: &Write| {
            write
                .withdrawn
                .iter()
                .map(|parent| parent.name.to_string())
                .collect::<Vec<_>>()
        };
        let write = plan
            .begin(id("a"), Some(seen(1, Some(1))))
            .expect("a write");
        assert_eq!(withdrawn(&write), ["g"]);
        plan.end(&write, Outcome::Settled, now);
        let write = plan
            .begin(id("a"), Some(seen(2, Some(2))))
            .expect("a write");
        assert!(withdrawn(&write).is_empty(), "once is enough");
        plan.end(&write, Outcome::Failed, now);
        let write = plan
            .begin(id("b"), Some(seen(1, Some(1))))
            .expect("a write");
        assert_eq!(withdrawn(&write), ["g"]);
        assert_eq!(*write.desired, Status::Route(RouteStatus::default()));
        // Wanted again before it was taken away.
        want(&mut plan, &[("a", &route(&["g"])), ("b", &route(&["g"]))]);
        plan.end(&write, Outcome::Failed, now);
        let write = plan
            .begin(id("b"), Some(seen(1, Some(1))))
            .expect("a write");
        assert!(withdrawn(&write).is_empty());
    }

    #[test]
    fn gateways_are_written_only_when_wanted() {
        let id = (Kind::Gateway, Key::new("n", "g"));
        let status = Arc::new(Status::Gateway(GatewayStatus::default()));
        let mut plan = Plan::new();
        plan.want(Arc::new(Statuses::from([(
            id.clone(),
            Arc::clone(&status),
        )])));
        let observed = Digests::from([(id.clone(), seen(1, Some(1)))]);
        assert_eq!(
            plan.due(&observed, Instant::now()).0,
            std::slice::from_ref(&id)
        );
        plan.want(Arc::default());
        assert!(plan.due(&observed, Instant::now()).0.is_empty());
    }
}
