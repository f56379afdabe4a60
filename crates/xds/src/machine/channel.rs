//! What one Envoy has asked for, holds and was sent, for one resource type.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postern_envoy::{Kind, Resource, Resources};

/// The clusters that a route table refers to.
#[derive(Clone, Debug)]
pub(super) enum Needs {
    /// These names, sorted. Empty for all kinds but routes.
    Known(Arc<[Arc<str>]>),
    /// Envoy brought the table from an earlier stream, at a version that is not ours to look up.
    Unknown,
}

/// A resource as Envoy has it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// `None`: a version that we cannot read, so equal to none of ours.
    pub version: Option<u64>,
    /// `false`: it was part of a refused response, and Envoy may have taken it all the same.
    pub sure: bool,
    pub needs: Needs,
}

/// Book-keeping of one name.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// What Envoy has acknowledged and is not being told to drop.
    pub held: Option<Held>,
    /// The versions that Envoy has refused when they were sent alone, the last ones of them.
    refused: Vec<u64>,
    /// Envoy must get it again although it has it.
    pub resend: bool,
    /// Envoy asked for it by name and was told that it does not exist.
    pub absent: bool,
    /// The first unmet need when last looked at: looked at first the next time.
    pub waits_for: Option<Arc<str>>,
}

impl Entry {
    /// How many refused versions of a name are remembered.
    const REFUSALS: usize = 16;

    /// Whether Envoy surely has it, at whatever version.
    pub fn is_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.sure)
    }

    /// Whether Envoy has refused this version.
    pub fn has_refused(&self, version: u64) -> bool {
        self.refused.contains(&version)
    }

    fn refuse(&mut self, version: u64) {
        if self.refused.len() == Entry::REFUSALS {
            self.refused.remove(0);
        }
        self.refused.push(version);
    }
}

/// One resource of a response.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub name: Arc<str>,
    pub version: u64,
    pub needs: Arc<[Arc<str>]>,
    /// Envoy had to get it although it may have had it; still so if it refuses this.
    pub again: bool,
}

/// The one response of this type that Envoy has not answered yet.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub nonce: String,
    pub sent: Vec<Sent>,
    /// Names told to be gone, with what Envoy had until then.
    pub removed: Vec<(Arc<str>, Option<Held>)>,
}

/// The state of one resource type on one stream.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// A request of this type has arrived.
    pub asked: bool,
    pub wildcard: bool,
    /// Names subscribed to, one by one.
    pub named: BTreeSet<Arc<str>>,
    /// A wildcard subscription waits for its first answer, which is sent even if it is empty:
    /// Envoy starts its listeners only after it.
    pub answer_due: bool,
    pub entries: BTreeMap<Arc<str>, Entry>,
    /// Names whose state at Envoy may differ from what it should be; all others do not.
    pub pending: BTreeSet<Arc<str>>,
    /// Parts of refused responses, sent again alone until the culprit is found. The last first.
    pub suspects: Vec<Vec<(Arc<str>, u64)>>,
    pub outstanding: Option<Outstanding>,
}

impl Channel {
    /// Whether Envoy is subscribed to a name.
    pub fn covers(&self, name: &str) -> bool {
        self.wildcard || self.named.contains(name)
    }

    /// Nothing in flight and nothing left to tell.
    pub fn settled(&self) -> bool {
        self.outstanding.is_none() && self.pending.is_empty() && self.suspects.is_empty()
    }

    /// Subscribes to `*`.
    pub fn subscribe_all(&mut self, kind: Kind, resources: Option<&Resources>) {
        self.wildcard = true;
        self.answer_due = true;
        self.pending.extend(self.entries.keys().cloned());
        if let Some(resources) = resources {
            self.pending.extend(resources.of(kind).keys().cloned());
        }
    }

    /// Subscribes to one name. Asked for again, it is sent again: Envoy may have forgotten it.
    pub fn subscribe(&mut self, name: Arc<str>, again: bool) {
        let entry = self.entries.entry(name.clone()).or_default();
        entry.resend = again;
        entry.absent = false;
        self.named.insert(name.clone());
        self.pending.insert(name);
    }

    /// Ends the subscription to `*`.
    pub fn unsubscribe_all(&mut self) {
        self.wildcard = false;
        self.answer_due = false;
        let named = &self.named;
        self.entries.retain(|name, _| named.contains(name));
        self.pending.retain(|name| named.contains(name));
    }

    /// Ends the subscription to one name. Under a wildcard Envoy cannot know whether the name
    /// belongs to that, so it is told once more.
    pub fn unsubscribe(&mut self, name: &str) {
        let Some(name) = self.named.take(name) else {
            return;
        };
        if self.wildcard {
            let entry = self.entries.entry(name.clone()).or_default();
            entry.resend = true;
            entry.absent = false;
            self.pending.insert(name);
        } else {
            self.entries.remove(&name);
            self.pending.remove(&name);
        }
    }

    /// Notes what Envoy brings from an earlier stream.
    pub fn bring(&mut self, name: Arc<str>, version: Option<u64>) {
        let entry = self.entries.entry(name.clone()).or_default();
        entry.held = Some(Held {
            version,
            sure: true,
            needs: Needs::Unknown,
        });
        self.pending.insert(name);
    }

    /// Fills in the needs of what was brought, where the version is one of ours, and returns it.
    pub fn recognise(&mut self, kind: Kind, resources: &Resources) -> Vec<(Arc<str>, u64)> {
        let mut known = Vec::new();
        for (name, entry) in &mut self.entries {
            let Some(held) = &mut entry.held else {
                continue;
            };
            if let (Needs::Unknown, Some(resource)) = (&held.needs, resources.get(kind, name))
                && held.version == Some(resource.version)
            {
                held.needs = Needs::Known(resource.needs.clone());
                known.push((name.clone(), resource.version));
            }
        }
        known
    }

    /// Takes the next group of suspects of which something is still to be sent as it was.
    /// What has changed since then is no suspect any more.
    pub fn next_suspects(&mut self, kind: Kind, resources: &Resources) -> Vec<Arc<str>> {
        while let Some(group) = self.suspects.pop() {
            let mut same = Vec::with_capacity(group.len());
            for (name, version) in group {
                if !self.covers(&name) {
                    continue;
                }
                match resources.get(kind, &name) {
                    Some(resource) if resource.version == version => same.push(name),
                    _ => {
                        self.pending.insert(name);
                    }
                }
            }
            if !same.is_empty() {
                return same;
            }
        }
        Vec::new()
    }

    /// Books an acknowledged response.
    pub fn accept(&mut self, outstanding: &Outstanding) {
        for sent in &outstanding.sent {
            if !self.covers(&sent.name) {
                continue;
            }
            let entry = self.entries.entry(sent.name.clone()).or_default();
            entry.held = Some(Held {
                version: Some(sent.version),
                sure: true,
                needs: Needs::Known(sent.needs.clone()),
            });
        }
        self.drop_removed(outstanding);
    }

    /// Books a refused response; `true` if the culprit is found, so that this is news.
    pub fn refuse(&mut self, outstanding: &Outstanding) -> bool {
        match outstanding.sent.as_slice() {
            // A removal alone: repeating it would change nothing.
            [] => {
                self.drop_removed(outstanding);
                return true;
            }
            [sent] => {
                if self.covers(&sent.name) {
                    let entry = self.entries.entry(sent.name.clone()).or_default();
                    entry.refuse(sent.version);
                    // What was owed is still owed: a version that Envoy takes, even the one that it has.
                    if sent.again {
                        entry.resend = true;
                        self.pending.insert(sent.name.clone());
                    }
                }
            }
            many => {
                for sent in many {
                    self.doubt(sent);
                }
                let (left, right) = many.split_at(many.len() / 2);
                for half in [right, left] {
                    let group = half.iter().map(|sent| (sent.name.clone(), sent.version));
                    self.suspects.push(group.collect());
                }
            }
        }
        // Envoy may or may not have dropped them: tell it again.
        for (name, held) in &outstanding.removed {
            if self.covers(name) {
                let entry = self.entries.entry(name.clone()).or_default();
                entry.held = held.clone().map(|held| Held {
                    version: None,
                    sure: false,
                    ..held
                });
                entry.absent = false;
                self.pending.insert(name.clone());
            }
        }
        outstanding.sent.len() == 1
    }

    /// Envoy takes clusters and listeners one by one, and refuses all when one is bad.
    fn doubt(&mut self, sent: &Sent) {
        if !self.covers(&sent.name) {
            return;
        }
        let entry = self.entries.entry(sent.name.clone()).or_default();
        entry.resend |= sent.again;
        let held = entry.held.get_or_insert_with(|| Held {
            version: None,
            sure: false,
            needs: Needs::Known(Arc::from([])),
        });
        held.version = None;
        if let Needs::Known(needs) = &held.needs {
            let both: BTreeSet<_> = needs.iter().chain(&*sent.needs).cloned().collect();
            held.needs = Needs::Known(both.into_iter().collect());
        }
    }

    fn drop_removed(&mut self, outstanding: &Outstanding) {
        for (name, _) in &outstanding.removed {
            if !self.named.contains(name) && !self.pending.contains(name) {
                self.entries.remove(name);
            }
        }
    }
}

/// Calls `tell` with each name whose version differs between two maps, in one walk over both.
pub(super) fn differences(
    old: &BTreeMap<Arc<str>, Resource>,
    new: &BTreeMap<Arc<str>, Resource>,
    mut tell: impl FnMut(&Arc<str>),
) {
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let old = if order.is_le() { olds.next() } else { None };
        let new = if order.is_ge() { news.next() } else { None };
        match (old, new) {
            (Some((_, old)), Some((_, new))) if old.version == new.version => {}
            (_, Some((name, _))) | (Some((name, _)), None) => tell(name),
            (None, None) => return,
        }
    }
}
