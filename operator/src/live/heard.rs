//! What watches said while runs were under way.
//!
//! A run remembers what it read and wrote, so that the next one need not ask again. But an answer may
//! come after a watch told of what happened since: taken for news it would bring back a deleted
//! object, which nobody would then make again, or hide a change, which nobody would put back. So
//! whatever a watch says within a run counts more than the answers of that run.

use std::collections::BTreeMap;

use crate::kinds::Stamped;

/// An object of a namespace; without a kind an Entitlement.
type What = (Option<Stamped>, String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// It is there, and as the watch says.
    There,
    /// The one of this UID is gone.
    Gone(String),
}

/// What watches said, for each namespace with a run under way.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<String, BTreeMap<What, Said>>);

impl Heard {
    /// A run begins; a namespace has one at a time.
    pub(super) fn run_begins(&mut self, namespace: &str) {
        self.0.insert(namespace.to_owned(), BTreeMap::new());
    }

    /// It ends.
    pub(super) fn run_ends(&mut self, namespace: &str) {
        self.0.remove(namespace);
    }

    /// A watch says how an object is.
    pub(super) fn there(&mut self, namespace: &str, kind: Option<Stamped>, name: &str) {
        self.say(namespace, kind, name, Said::There);
    }

    /// A watch says that the object of this UID is gone.
    pub(super) fn gone(&mut self, namespace: &str, kind: Option<Stamped>, name: &str, uid: &str) {
        self.say(namespace, kind, name, Said::Gone(uid.to_owned()));
    }

    fn say(&mut self, namespace: &str, kind: Option<Stamped>, name: &str, said: Said) {
        if let Some(run) = self.0.get_mut(namespace) {
            run.insert((kind, name.to_owned()), said);
        }
    }

    /// Whether an answer about the object of this UID may be older than what a watch said.
    pub(super) fn outdates(
        &self,
        namespace: &str,
        kind: Option<Stamped>,
        name: &str,
        uid: &str,
    ) -> bool {
        let run = self.0.get(namespace);
        match run.and_then(|run| run.get(&(kind, name.to_owned()))) {
            None => false,
            Some(Said::There) => true,
            Some(Said::Gone(gone)) => gone == uid,
        }
    }
}
