//! Which tenant is next.
//!
//! Each tenant has one place: however much it churns it waits its pause, runs alone, and is run
//! again once if it changed meanwhile. Failures push back the tenant that failed, nobody else.
//! A namespace has one run at a time and its turn like any other, however many instances it
//! holds. Pure: time is a parameter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use postern_refs::{Key, Name};

/// The least time between two runs of one tenant.
pub const PAUSE: Duration = Duration::from_millis(200);
/// The wait after the first failure; it doubles with each further one.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
pub const LAST_RETRY: Duration = Duration::from_secs(300);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is as it should be; the next run waits for a change.
    Settled,
    /// Something is on its way that no watch will tell of: look again after this time.
    Later(Duration),
    /// Something went wrong.
    Failed,
    /// The tenant is gone and so is all that was its own.
    Gone,
}

/// The tenants that wait, run, or ran before.
#[derive(Debug, Default)]
pub struct Queue {
    tenants: BTreeMap<Key, Tenant>,
    // Namespaces with a run under way.
    busy: BTreeSet<Name>,
    // When a namespace had its last turn, as a number that grows with each.
    served: BTreeMap<Name, u64>,
    turns: u64,
}

#[derive(Debug, Default)]
struct Tenant {
    due: Option<Instant>,
    running: bool,
    touched: bool,
    failures: u32,
    ended: Option<Instant>,
}

impl Tenant {
    /// When a change may be looked at: the pause after the last run, longer after failures, so
    /// that churn does not get around them.
    fn soonest(&self, now: Instant) -> Instant {
        let pause = if self.failures == 0 {
            PAUSE
        } else {
            FIRST_RETRY
        };
        self.ended.map_or(now, |ended| now.max(ended + pause))
    }

    fn wait_until(&mut self, time: Instant) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }
}

impl Queue {
    /// Something of this tenant's changed.
    pub fn touch(&mut self, key: &Key, now: Instant) {
        let tenant = self.tenants.entry(key.clone()).or_default();
        if tenant.running {
            tenant.touched = true;
        } else {
            let soonest = tenant.soonest(now);
            tenant.wait_until(soonest);
        }
    }

    /// The next tenant: of those that are due, one of the namespace whose last turn is longest
    /// ago; of these, the one that has waited longest. It runs until [`Queue::ended`].
    pub fn take(&mut self, now: Instant) -> Option<Key> {
        let due = self.waiting().filter(|(due, _)| *due <= now);
        let turn = |key: &Key| self.served.get(&key.namespace).copied();
        let (_, _, key) = due.map(|(due, key)| (turn(key), due, key)).min()?;
        let key = key.clone();
        let tenant = self.tenants.get_mut(&key)?;
        tenant.due = None;
        tenant.running = true;
        tenant.touched = false;
        self.turns += 1;
        self.served.insert(key.namespace.clone(), self.turns);
        self.busy.insert(key.namespace.clone());
        Some(key)
    }

    /// When the next tenant is due that need not wait for a run to end.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting().map(|(due, _)| due).min()
    }

    fn waiting(&self) -> impl Iterator<Item = (Instant, &Key)> {
        let free = |key: &Key| !self.busy.contains(&key.namespace);
        let waiting = self.tenants.iter().filter(move |(key, _)| free(key));
        waiting.filter_map(|(key, tenant)| Some((tenant.due?, key)))
    }

    /// A run ended.
    pub fn ended(&mut self, key: &Key, outcome: Outcome, now: Instant) {
        let Some(tenant) = self.tenants.get_mut(key) else {
            return;
        };
        self.busy.remove(&key.namespace);
        tenant.running = false;
        tenant.ended = Some(now);
        if outcome == Outcome::Failed {
            tenant.failures = tenant.failures.saturating_add(1);
        } else {
            tenant.failures = 0;
        }
        if tenant.touched {
            let soonest = tenant.soonest(now);
            tenant.wait_until(soonest);
        }
        match outcome {
            Outcome::Settled => {}
            Outcome::Later(after) => tenant.wait_until(now + after),
            Outcome::Failed => {
                let doubled = 2_u32.saturating_pow(tenant.failures - 1);
                tenant.wait_until(now + FIRST_RETRY.saturating_mul(doubled).min(LAST_RETRY));
            }
            Outcome::Gone if tenant.due.is_none() => {
                self.tenants.remove(key);
                if !self
                    .tenants
                    .keys()
                    .any(|other| other.namespace == key.namespace)
                {
                    self.served.remove(&key.namespace);
                }
            }
            Outcome::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(name, "default")
    }

    #[test]
    fn churn_of_one_tenant_delays_no_other() {
        let start = Instant::now();
        let mut queue = Queue::default();
        let mut runs = BTreeMap::<Key, u32>::new();
        // One change a millisecond by the noisy tenant for two seconds, one by each other.
        for millisecond in 0..2_000_u64 {
            let now = start + Duration::from_millis(millisecond);
            queue.touch(&key("noisy"), now);
            if millisecond == 1_000 {
                queue.touch(&key("a"), now);
                queue.touch(&key("b"), now);
            }
            if let Some(taken) = queue.take(now) {
                queue.ended(&taken, Outcome::Settled, now);
                *runs.entry(taken).or_default() += 1;
            }
            if millisecond == 1_005 {
                assert!(runs.contains_key(&key("a")) && runs.contains_key(&key("b")));
            }
        }
        let noisy = runs[&key("noisy")];
        assert!(noisy <= 10, "{noisy} runs in two seconds");
        assert_eq!(runs[&key("a")], 1);
    }

    #[test]
    fn a_flood_of_instances_has_one_turn_among_all() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for number in 0..1_000 {
            queue.touch(&Key::new("flood", format!("i{number}")), now);
        }
        let first = queue.take(now).expect("due");
        assert_eq!(&*first.namespace, "flood");
        assert_eq!(queue.take(now), None, "one run at a time");
        assert_eq!(queue.next_due(), None, "and nothing to wake up for");
        for name in ["a", "b"] {
            queue.touch(&key(name), now);
        }
        queue.ended(&first, Outcome::Settled, now);
        let turns: Vec<Key> = std::iter::from_fn(|| queue.take(now)).collect();
        let namespaces: Vec<&str> = turns.iter().map(|key| &*key.namespace).collect();
        assert_eq!(namespaces, ["a", "b", "flood"]);
    }

    #[test]
    fn a_tenant_runs_alone_and_once_more_for_what_changed_meanwhile() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.touch(&key("a"), now);
        assert_eq!(queue.take(now), Some(key("a")));
        queue.touch(&key("a"), now);
        queue.touch(&key("a"), now);
        assert_eq!((queue.take(now), queue.next_due()), (None, None));
        queue.ended(&key("a"), Outcome::Settled, now);
        assert_eq!(queue.take(now), None, "the pause");
        let later = now + PAUSE;
        assert_eq!(queue.next_due(), Some(later));
        assert_eq!(queue.take(later), Some(key("a")));
        queue.ended(&key("a"), Outcome::Settled, later);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn failures_push_back_and_churn_does_not_get_around_them() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.touch(&key("a"), now);
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(queue.take(now), Some(key("a")));
            queue.ended(&key("a"), Outcome::Failed, now);
            let due = queue.next_due().expect("a retry");
            waits.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(queue.take(now), Some(key("a")));
        queue.ended(&key("a"), Outcome::Failed, now);
        // A change may be the repair: it is looked at before the retry, but not at once.
        queue.touch(&key("a"), now);
        assert_eq!(queue.next_due(), Some(now + FIRST_RETRY));
        assert_eq!(queue.take(now + FIRST_RETRY), Some(key("a")));
        queue.ended(&key("a"), Outcome::Settled, now + FIRST_RETRY);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn who_is_gone_is_forgotten_unless_it_came_back_meanwhile() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.touch(&key("a"), now);
        queue.take(now);
        queue.ended(&key("a"), Outcome::Gone, now);
        assert!(queue.tenants.is_empty());
        queue.touch(&key("a"), now);
        queue.take(now);
        queue.touch(&key("a"), now);
        queue.ended(&key("a"), Outcome::Gone, now);
        assert_eq!(queue.take(now + PAUSE), Some(key("a")));
    }

    #[test]
    fn what_is_on_its_way_is_looked_at_later() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.touch(&key("a"), now);
        queue.take(now);
        queue.ended(&key("a"), Outcome::Later(Duration::from_secs(2)), now);
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(2)));
    }
}
