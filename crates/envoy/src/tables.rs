//! Route tables: encoded entries, joined to virtual hosts and tables.
//!
//! ```text
//! RouteConfiguration   name │ virtual_hosts │ virtual_hosts │ … │ validate_clusters, …
//!                           └───────────────┐
//! VirtualHost   tag, length │ name, domains, guard │ routes │ routes │ …
//!                                                  └─┐
//! Route                                 tag, length │ match, action      (an entry: 0 to 4 of it)
//! ```
//!
//! The cache is the last body itself: what did not change is copied from it, runs of unchanged
//! neighbours in one go. So a change costs the encoding of the entries that changed, a walk over
//! pointers, and one copy of the table's bytes; and nothing is held twice. The result is, byte by
//! byte, what encoding the whole message would give (a test says so).

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as rt;
use postern_model::{Action, Host, Origin, RouteEntry, Table, Target, Text, VirtualHost};
use prost::Message;

use crate::encode::Work;
use crate::join::{Join, Reuse, common};
use crate::{check, pb, route, version};

/// Field numbers of `envoy.config.route.v3.RouteConfiguration` and `VirtualHost`.
mod tag {
    pub(super) const TABLE_NAME: u32 = 1;
    pub(super) const TABLE_HOSTS: u32 = 2;
    pub(super) const HOST_NAME: u32 = 1;
    pub(super) const HOST_DOMAINS: u32 = 2;
    pub(super) const HOST_ROUTES: u32 = 3;
}

/// A table as it was encoded last.
#[derive(Default)]
pub(crate) struct TableMemo {
    hosts: Vec<HostMemo>,
    /// How many entries refer to each cluster.
    clusters: BTreeMap<Arc<str>, usize>,
    /// The encoded `RouteConfiguration`.
    pub(crate) body: Bytes,
    /// Its version.
    pub(crate) version: u64,
    /// The names of `clusters`.
    pub(crate) needs: Arc<[Arc<str>]>,
    refused: usize,
}

struct HostMemo {
    host: Arc<VirtualHost>,
    /// The field `virtual_hosts` with its tag, in the table's body.
    place: Range<usize>,
    version: u64,
    entries: Vec<EntryMemo>,
    /// Whether it is left out.
    refused: bool,
    /// How many of its entries are refused.
    refusals: usize,
}

#[derive(Clone)]
struct EntryMemo {
    entry: Arc<RouteEntry>,
    /// Bytes that it takes up in the table's body.
    length: usize,
    version: u64,
    /// Why it is not sent as it is.
    refused: Option<Text>,
}

impl HostMemo {
    /// A host that is left out, with all its entries.
    fn refused(host: &Arc<VirtualHost>, why: &Text) -> HostMemo {
        let entry = |entry: &Arc<RouteEntry>| EntryMemo {
            entry: Arc::clone(entry),
            length: 0,
            version: 0,
            refused: Some(Arc::clone(why)),
        };
        HostMemo {
            host: Arc::clone(host),
            place: 0..0,
            version: 0,
            entries: host.entries.iter().map(entry).collect(),
            refused: true,
            refusals: host.entries.len(),
        }
    }

    /// Takes the content, and leaves a husk that is soon replaced.
    fn take(&mut self) -> HostMemo {
        HostMemo {
            host: Arc::clone(&self.host),
            place: self.place.clone(),
            entries: std::mem::take(&mut self.entries),
            ..*self
        }
    }
}

/// The bytes of a row of hosts in the table's body.
fn span(hosts: &[HostMemo]) -> Range<usize> {
    match (hosts.first(), hosts.last()) {
        (Some(first), Some(last)) => first.place.start..last.place.end,
        _ => 0..0,
    }
}

/// The bytes that a row of entries takes up.
fn length(entries: &[EntryMemo]) -> usize {
    entries.iter().map(|memo| memo.length).sum()
}

impl EntryMemo {
    /// Whether `entry` is encoded as this one was.
    fn is(&self, entry: &Arc<RouteEntry>) -> bool {
        Arc::ptr_eq(&self.entry, entry)
            || (self.entry.matcher == entry.matcher && self.entry.action == entry.action)
    }
}

/// Why a virtual host cannot be sent.
fn refused(host: &Host, double: bool) -> Option<Text> {
    match check::host(host) {
        Err(why) => Some(why),
        Ok(()) if double => Some("another virtual host of this table has this host".into()),
        Ok(()) => None,
    }
}

impl TableMemo {
    /// Brings the memo up to a new state of its table. Says whether there are refusals, or were.
    pub(crate) fn update(&mut self, table: &Table, work: &mut Work) -> bool {
        work.tables += 1;
        let mut pass = Pass {
            old: std::mem::take(&mut self.body),
            fresh: Vec::new(),
            gained: Vec::new(),
            lost: Vec::new(),
            work,
        };
        let mut joined = Join::default();
        joined.fresh(pass.write(|into| pb::string_field(tag::TABLE_NAME, &table.id.0, into)));

        let known =
            |old: &HostMemo, new: &Arc<VirtualHost>| Arc::ptr_eq(&old.host, new) && !old.refused;
        let (start, mut end) = common(&self.hosts, &table.hosts, known);
        let doubles = doubles(table, &self.hosts, start, end);
        if !doubles.is_empty() {
            // One of the last hosts may be the double of one in the middle.
            end = 0;
        }
        let changed = start..self.hosts.len() - end;
        let old_middle = self.hosts[changed.clone()].iter_mut().map(HostMemo::take);
        let mut reuse = Reuse::new(old_middle.collect());

        joined.old(span(&self.hosts[..start]));
        let mut middle = Vec::new();
        let new_hosts = table.hosts[start..table.hosts.len() - end].iter();
        for (index, host) in (start..).zip(new_hosts) {
            let double = doubles.contains(&index);
            let old = reuse.seek(
                |old| Arc::ptr_eq(&old.host, host),
                |old| old.host.host.cmp(&host.host),
            );
            let old = old.and_then(|index| reuse.take(index));
            let place = joined.length;
            let mut memo = match old {
                Some(old) if known(&old, host) && !double => {
                    joined.old(old.place.clone());
                    old
                }
                old => pass.host(host, old, double, &mut joined),
            };
            memo.place = place..joined.length;
            middle.push(memo);
        }
        for dropped in reuse.rest() {
            pass.lose(dropped.entries);
        }
        let rest = &mut self.hosts[changed.end..];
        let (from, to) = (span(rest), joined.length);
        for host in rest {
            host.place = host.place.start - from.start + to..host.place.end - from.start + to;
        }
        joined.old(from);
        self.hosts.splice(changed, middle);

        let tail = pass.write(|into| {
            table_tail().encode(into).ok();
        });
        let name = version::of_bytes(table.id.0.as_bytes());
        let own = version::fold(name, version::of_bytes(&pass.fresh[tail.clone()]));
        let before = std::mem::take(&mut self.refused);
        self.version = self.hosts.iter().fold(own, |whole, host| {
            self.refused += host.refusals;
            version::fold(whole, host.version)
        });
        joined.fresh(tail);
        self.body = joined.assemble(&pass.old, &pass.fresh);
        let Pass { gained, lost, .. } = pass;
        self.count_clusters(&gained, &lost);
        before + self.refused > 0
    }

    fn count_clusters(&mut self, gained: &[Arc<RouteEntry>], lost: &[Arc<RouteEntry>]) {
        let mut changed = false;
        for name in gained.iter().flat_map(|entry| clusters_of(entry)) {
            let count = self.clusters.entry(Arc::clone(name)).or_insert_with(|| {
                changed = true;
                0
            });
            *count += 1;
        }
        for name in lost.iter().flat_map(|entry| clusters_of(entry)) {
            if let Some(count) = self.clusters.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.clusters.remove(name);
                    changed = true;
                }
            }
        }
        if changed {
            self.needs = self.clusters.keys().cloned().collect();
        }
    }

    /// Appends what is not sent as the model has it.
    pub(crate) fn refusals(&self, into: &mut Vec<(Origin, Text)>) {
        for host in self.hosts.iter().filter(|host| host.refusals > 0) {
            for memo in &host.entries {
                if let Some(why) = &memo.refused {
                    into.push((memo.entry.origin.clone(), Arc::clone(why)));
                }
            }
        }
    }
}

/// What a `RouteConfiguration` says beside name and hosts.
fn table_tail() -> rt::RouteConfiguration {
    rt::RouteConfiguration {
        // Clusters come before the routes that use them (the xDS machine sees to it); one that
        // lags must not make Envoy refuse the table.
        validate_clusters: pb::boolean(false),
        // `Host: a.example:8080` is a.example; the port is still sent to the backend.
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}

fn clusters_of(entry: &RouteEntry) -> impl Iterator<Item = &Arc<str>> {
    let backends = match &entry.action {
        Action::Forward(backends) => backends.as_slice(),
        Action::Redirect(_) | Action::Fixed(_) => &[],
    };
    backends.iter().filter_map(|backend| match &backend.target {
        Target::Cluster(id) if backend.weight > 0 => Some(&id.0),
        Target::Cluster(_) | Target::Broken(_) => None,
    })
}

/// The indices of hosts that came before in this table (the model has none: Envoy would refuse the
/// table). `start` and `end` hosts are known to be as they were; looked for only where the others
/// are not the same row of names, and all do not ascend.
fn doubles(table: &Table, old: &[HostMemo], start: usize, end: usize) -> HashSet<usize> {
    let new_middle = &table.hosts[start..table.hosts.len() - end];
    let old_middle = &old[start..old.len() - end];
    let same_row = new_middle.len() == old_middle.len()
        && (new_middle.iter().zip(old_middle))
            .all(|(new, old)| !old.refused && new.host == old.host.host);
    let ascends = || {
        table
            .hosts
            .is_sorted_by(|left, right| left.host < right.host)
    };
    if same_row || ascends() {
        return HashSet::new();
    }
    let mut seen = HashSet::new();
    let all = table.hosts.iter().enumerate();
    all.filter(|(_, host)| !seen.insert(&host.host))
        .map(|(index, _)| index)
        .collect()
}

/// One update of one table.
struct Pass<'a> {
    /// The last body.
    old: Bytes,
    /// What is encoded in this pass, in no order.
    fresh: Vec<u8>,
    gained: Vec<Arc<RouteEntry>>,
    lost: Vec<Arc<RouteEntry>>,
    work: &'a mut Work,
}

impl Pass<'_> {
    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.fresh.len();
        write(&mut self.fresh);
        start..self.fresh.len()
    }

    /// Joins a virtual host that is new, or changed from `old`.
    fn host(
        &mut self,
        host: &Arc<VirtualHost>,
        old: Option<HostMemo>,
        double: bool,
        table: &mut Join,
    ) -> HostMemo {
        self.work.hosts += 1;
        let VirtualHost {
            host: name,
            entries,
        } = &**host;
        let (mut memos, mut at) = match old {
            Some(old) if !old.refused => {
                let start = old.place.end - length(&old.entries);
                (old.entries, start)
            }
            // Of a host that was left out nothing is in the old body.
            Some(_) | None => (Vec::new(), 0),
        };
        if let Some(why) = self::refused(name, double) {
            self.lose(memos);
            return HostMemo::refused(host, &why);
        }
        let domain = name.to_string();
        let head = self.write(|into| {
            pb::string_field(tag::HOST_NAME, &domain, into);
            pb::string_field(tag::HOST_DOMAINS, &domain, into);
            pb::message_field(tag::HOST_ROUTES, &route::one_host_only(), into);
        });
        let own = version::of_bytes(&self.fresh[head.clone()]);
        let mut body = Join::default();
        body.fresh(head);

        let (start, end) = common(&memos, entries, |old, new| Arc::ptr_eq(&old.entry, new));
        let changed = start..memos.len() - end;
        let unchanged = length(&memos[..start]);
        body.old(at..at + unchanged);
        at += unchanged;
        let middle = &entries[start..entries.len() - end];
        let middle = self.entries(name, middle, &memos[changed.clone()], &mut at, &mut body);
        body.old(at..at + length(&memos[changed.end..]));
        memos.splice(changed, middle);

        let prefix = self.write(|into| pb::field_start(tag::TABLE_HOSTS, body.length, into));
        table.fresh(prefix);
        table.join(body);
        let mut refusals = 0;
        let version = memos.iter().fold(own, |whole, memo| {
            refusals += usize::from(memo.refused.is_some());
            version::fold(whole, memo.version)
        });
        HostMemo {
            host: Arc::clone(host),
            place: 0..0,
            version,
            entries: memos,
            refused: false,
            refusals,
        }
    }

    /// Joins entries that may have changed. The old ones stand at `at` in the old body, which is
    /// moved past them.
    fn entries(
        &mut self,
        host: &Host,
        entries: &[Arc<RouteEntry>],
        old: &[EntryMemo],
        at: &mut usize,
        body: &mut Join,
    ) -> Vec<EntryMemo> {
        let starts: Vec<usize> = (old.iter())
            .map(|memo| {
                let start = *at;
                *at += memo.length;
                start
            })
            .collect();
        let mut reuse = Reuse::new(old.to_vec());
        let mut memos = Vec::with_capacity(entries.len());
        for entry in entries {
            let old = reuse.seek(
                |old| Arc::ptr_eq(&old.entry, entry),
                |old| old.entry.precedence.cmp(&entry.precedence),
            );
            let same = old.filter(|index| reuse.get(*index).is_some_and(|old| old.is(entry)));
            memos.push(
                match same.and_then(|index| Some((starts[index], reuse.take(index)?))) {
                    Some((start, memo)) => {
                        body.old(start..start + memo.length);
                        EntryMemo {
                            entry: Arc::clone(entry),
                            ..memo
                        }
                    }
                    None => self.entry(entry, host, body),
                },
            );
        }
        self.lose(reuse.rest());
        memos
    }

    /// Entries that are no longer there.
    fn lose(&mut self, entries: impl IntoIterator<Item = EntryMemo>) {
        let counted = entries.into_iter().filter(|memo| memo.refused.is_none());
        self.lost.extend(counted.map(|memo| memo.entry));
    }

    fn entry(&mut self, entry: &Arc<RouteEntry>, host: &Host, body: &mut Join) -> EntryMemo {
        self.work.entries += 1;
        let route::Encoded { routes, refused } = route::encode(entry, host);
        if refused.is_none() {
            self.gained.push(Arc::clone(entry));
        }
        let bytes = self.write(|into| {
            for route in &routes {
                pb::message_field(tag::HOST_ROUTES, route, into);
            }
        });
        let memo = EntryMemo {
            entry: Arc::clone(entry),
            length: bytes.len(),
            version: version::of_bytes(&self.fresh[bytes.clone()]),
            refused,
        };
        body.fresh(bytes);
        memo
    }
}

#[cfg(test)]
mod tests;
