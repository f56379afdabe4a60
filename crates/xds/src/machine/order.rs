//! Make before break: what may be sent or removed now, and what waits for what.

use std::collections::HashSet;
use std::sync::Arc;

use postern_envoy::{Kind, Resources};

use super::Machine;
use super::channel::{Held, Needs};

/// What is to be done about one pending name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Envoy has what it should have, or has refused it.
    Nothing,
    /// Not yet.
    Wait,
    Send,
    Remove,
}

/// The clusters that the route tables of this Envoy refer to.
#[derive(Debug)]
pub(super) enum Needed {
    /// Envoy brought a table along whose content is unknown.
    All,
    These(HashSet<Arc<str>>),
}

impl Machine {
    /// Decides about a pending name of a type that has nothing in flight.
    pub(super) fn verdict(&mut self, kind: Kind, name: &str, resources: &Resources) -> Verdict {
        let channel = &self.channels[kind as usize];
        if !channel.covers(name) {
            return Verdict::Nothing;
        }
        let entry = channel.entries.get(name);
        let held = entry.and_then(|entry| entry.held.as_ref());
        let Some(resource) = resources.get(kind, name) else {
            if held.is_some() {
                return match self.removable(kind, name) {
                    true => Verdict::Remove,
                    false => Verdict::Wait,
                };
            }
            let told = entry.is_some_and(|entry| entry.absent);
            // It was there by name, and is not there by wildcard either.
            let unsure = entry.is_some_and(|entry| entry.resend);
            return match (channel.named.contains(name) && !told) || unsure {
                true => Verdict::Remove,
                false => Verdict::Nothing,
            };
        };
        let again = entry.is_some_and(|entry| entry.resend);
        let same = held.is_some_and(|held| held.version == Some(resource.version));
        let refused = entry.is_some_and(|entry| entry.has_refused(resource.version));
        if refused || (same && !again) {
            return Verdict::Nothing;
        }
        // A table that Envoy holds already breaks nothing when it is sent once more.
        if kind == Kind::Routes && !same {
            // From where it stopped the last time, and round: an answer costs what it settles.
            let needs = &resource.needs;
            let stopped = entry.and_then(|entry| entry.waits_for.as_ref());
            let start = stopped.and_then(|need| needs.binary_search(need).ok());
            let (before, after) = needs.split_at(start.unwrap_or(0));
            let mut needs = after.iter().chain(before);
            let unmet = needs.find(|need| !self.met(need, resources)).cloned();
            let entries = &mut self.channels[kind as usize].entries;
            let waits = unmet.is_some();
            if let Some(entry) = entries.get_mut(name) {
                entry.waits_for = unmet;
            } else if waits {
                entries.entry(Arc::from(name)).or_default().waits_for = unmet;
            }
            if waits {
                return Verdict::Wait;
            }
        }
        Verdict::Send
    }

    /// Whether Envoy can serve a route to this cluster, or never will.
    fn met(&self, need: &str, resources: &Resources) -> bool {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        let Some(cluster) = resources.get(Kind::Cluster, need) else {
            return true;
        };
        let clusters = &self.channels[Kind::Cluster as usize];
        if !clusters.asked {
            return false;
        }
        if !clusters.covers(need) {
            // It does not want the cluster.
            return true;
        }
        match clusters.entries.get(need) {
            Some(entry) if entry.is_held() => {}
            Some(entry) => return entry.has_refused(cluster.version),
            None => return false,
        }
        let Some(endpoints) = resources.get(Kind::Endpoints, need) else {
            return true;
        };
        let entries = &self.channels[Kind::Endpoints as usize].entries;
        entries.get(need).is_some_and(|entry| {
            (entry.is_held() && !entry.resend) || entry.has_refused(endpoints.version)
        })
    }

    /// Whether something that Envoy holds may go now.
    fn removable(&mut self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Listener => true,
            // Envoy works through a stream in order: its listeners are to let go first.
            Kind::Routes | Kind::Secret => {
                self.informed() && self.channels[Kind::Listener as usize].settled()
            }
            Kind::Cluster | Kind::Endpoints => {
                self.informed()
                    && match self.needed() {
                        Needed::All => false,
                        Needed::These(names) => !names.contains(name),
                    }
            }
        }
    }

    /// Whether Envoy has said all that it holds. Only a client that asks for nothing by wildcard
    /// gives no sign of that.
    fn informed(&self) -> bool {
        self.heard || self.channels.iter().all(|channel| !channel.wildcard)
    }

    fn needed(&mut self) -> &Needed {
        let routes = &self.channels[Kind::Routes as usize];
        self.needed.get_or_insert_with(|| {
            let mut names = HashSet::new();
            let in_flight = routes.outstanding.iter();
            let sent = in_flight.clone().flat_map(|o| &o.sent).map(|s| &s.needs);
            let going = in_flight.flat_map(|o| &o.removed);
            let held = (routes.entries.values())
                .filter_map(|entry| entry.held.as_ref())
                .chain(going.filter_map(|(_, held)| held.as_ref()));
            for Held { needs, .. } in held {
                match needs {
                    Needs::Known(needs) => names.extend(needs.iter().cloned()),
                    Needs::Unknown => return Needed::All,
                }
            }
            names.extend(sent.flat_map(|needs| needs.iter().cloned()));
            Needed::These(names)
        })
    }
}
