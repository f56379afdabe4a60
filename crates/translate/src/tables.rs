//! Route tables of a shard, kept from pass to pass: a changed route touches the hosts it stands at,
//! and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postern_model::{Host, RouteEntry, Table, TableId, VirtualHost};

/// The hosts of one table.
#[derive(Debug, Default)]
struct Hosts {
    hosts: BTreeMap<Host, Arc<VirtualHost>>,
    /// Hosts that stay though no route serves them.
    bases: BTreeSet<Host>,
}

/// The tables of one shard.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    tables: BTreeMap<TableId, Hosts>,
    touched: BTreeMap<TableId, BTreeSet<Host>>,
    edits: BTreeMap<(TableId, Host), Vec<Edit>>,
    out: Arc<BTreeMap<TableId, Arc<Table>>>,
}

#[derive(Debug)]
enum Edit {
    Remove(Arc<RouteEntry>),
    Insert(Arc<RouteEntry>),
}

impl Tables {
    /// Which tables there are, and their base hosts. Tables that are gone take their entries along.
    pub(crate) fn set_bases(&mut self, wanted: &BTreeMap<TableId, Vec<Host>>) {
        let gone: Vec<TableId> = self
            .tables
            .keys()
            .filter(|id| !wanted.contains_key(*id))
            .cloned()
            .collect();
        for id in gone {
            self.tables.remove(&id);
            self.touched.entry(id).or_default();
        }
        for (id, bases) in wanted {
            let table = self.tables.entry(id.clone()).or_default();
            let touched = self.touched.entry(id.clone()).or_default();
            let bases: BTreeSet<Host> = bases.iter().cloned().collect();
            for host in table.bases.symmetric_difference(&bases) {
                touched.insert(host.clone());
            }
            table.bases = bases;
        }
    }

    /// Notes that an entry no longer stands at a host.
    pub(crate) fn remove(&mut self, table: &TableId, host: &Host, entry: &Arc<RouteEntry>) {
        self.edit(table, host, Edit::Remove(entry.clone()));
    }

    /// Notes that an entry stands at a host.
    pub(crate) fn insert(&mut self, table: &TableId, host: &Host, entry: &Arc<RouteEntry>) {
        self.edit(table, host, Edit::Insert(entry.clone()));
    }

    fn edit(&mut self, table: &TableId, host: &Host, edit: Edit) {
        self.edits
            .entry((table.clone(), host.clone()))
            .or_default()
            .push(edit);
    }

    /// Carries out what was noted; returns the tables and how many hosts were made anew.
    pub(crate) fn settle(&mut self) -> (Arc<BTreeMap<TableId, Arc<Table>>>, usize) {
        for ((id, host), edits) in std::mem::take(&mut self.edits) {
            let Some(table) = self.tables.get_mut(&id) else {
                continue;
            };
            let mut entries = table
                .hosts
                .get(&host)
                .map(|known| known.entries.clone())
                .unwrap_or_default();
            apply(&mut entries, edits);
            let unchanged = table.hosts.get(&host).is_some_and(|known| {
                known.entries.len() == entries.len()
                    && known
                        .entries
                        .iter()
                        .zip(&entries)
                        .all(|(left, right)| Arc::ptr_eq(left, right))
            });
            if !unchanged {
                table.hosts.insert(
                    host.clone(),
                    Arc::new(VirtualHost {
                        host: host.clone(),
                        entries,
                    }),
                );
                self.touched.entry(id).or_default().insert(host);
            }
        }
        let mut made = 0;
        for (id, hosts) in std::mem::take(&mut self.touched) {
            let Some(table) = self.tables.get_mut(&id) else {
                Arc::make_mut(&mut self.out).remove(&id);
                continue;
            };
            made += hosts.len();
            for host in &hosts {
                let empty = table
                    .hosts
                    .get(host)
                    .is_none_or(|known| known.entries.is_empty());
                match (empty, table.bases.contains(host)) {
                    (true, false) => {
                        table.hosts.remove(host);
                    }
                    (true, true) => {
                        let bare = VirtualHost {
                            host: host.clone(),
                            entries: Vec::new(),
                        };
                        table.hosts.insert(host.clone(), Arc::new(bare));
                    }
                    (false, _) => {}
                }
            }
            if hosts.is_empty() && self.out.contains_key(&id) {
                continue;
            }
            let joined = Table {
                id: id.clone(),
                hosts: table.hosts.values().cloned().collect(),
            };
            Arc::make_mut(&mut self.out).insert(id, Arc::new(joined));
        }
        (self.out.clone(), made)
    }
}

/// Removes and inserts, keeping the order. Removals come first: a changed entry has the precedence
/// of the one that it replaces.
fn apply(entries: &mut Vec<Arc<RouteEntry>>, edits: Vec<Edit>) {
    let mut inserts = Vec::new();
    let mut removals = Vec::new();
    for edit in edits {
        match edit {
            Edit::Remove(entry) => removals.push(entry),
            Edit::Insert(entry) => inserts.push(entry),
        }
    }
    // Many at once (a first pass): sort once, rather than move the tail for each.
    if inserts.len() + removals.len() > 16 {
        let gone: BTreeSet<*const RouteEntry> = removals.iter().map(Arc::as_ptr).collect();
        entries.retain(|entry| !gone.contains(&Arc::as_ptr(entry)));
        entries.extend(inserts);
        entries.sort_by(|left, right| left.precedence.cmp(&right.precedence));
        return;
    }
    let place = |entries: &[Arc<RouteEntry>], entry: &RouteEntry| {
        entries.binary_search_by(|known| known.precedence.cmp(&entry.precedence))
    };
    for entry in removals {
        if let Ok(position) = place(entries, &entry) {
            entries.remove(position);
        }
    }
    for entry in inserts {
        match place(entries, &entry) {
            Ok(position) => entries[position] = entry,
            Err(position) => entries.insert(position, entry),
        }
    }
}
