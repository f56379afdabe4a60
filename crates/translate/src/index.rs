//! Which keys belong to a key: small sorted lists, since nearly all hold one or two. (A `BTreeSet`
//! takes the room of eleven keys for its first.)

use std::collections::BTreeMap;

use postern_refs::Key;

/// Keys by key; an empty list is no entry.
#[derive(Debug, Default)]
pub(crate) struct Index(BTreeMap<Key, Vec<Key>>);

impl Index {
    /// The members, sorted.
    pub(crate) fn get(&self, of: &Key) -> &[Key] {
        self.0.get(of).map_or(&[], Vec::as_slice)
    }

    /// Adds a member, once.
    pub(crate) fn insert(&mut self, of: &Key, member: &Key) {
        let members = self.0.entry(of.clone()).or_default();
        if let Err(place) = members.binary_search(member) {
            members.insert(place, member.clone());
        }
    }

    /// Takes a member out.
    pub(crate) fn remove(&mut self, of: &Key, member: &Key) {
        let Some(members) = self.0.get_mut(of) else {
            return;
        };
        if let Ok(place) = members.binary_search(member) {
            members.remove(place);
        }
        if members.is_empty() {
            self.0.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_sorted_stand_once_and_leave_no_trace() {
        let [of, a, b] = ["of", "a", "b"].map(|name| Key::new("n", name));
        let mut index = Index::default();
        for member in [&b, &a, &b] {
            index.insert(&of, member);
        }
        assert_eq!(index.get(&of), [a.clone(), b.clone()]);
        index.remove(&of, &a);
        index.remove(&of, &a);
        assert_eq!(index.get(&of), std::slice::from_ref(&b));
        index.remove(&of, &b);
        assert!(index.0.is_empty());
    }
}
