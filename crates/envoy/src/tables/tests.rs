use proptest::prelude::*;

use super::*;
use crate::fixtures::{entry, host, path, redirect, share, status, table, to};

/// The message made the plain way.
fn plain(table: &Table) -> Vec<u8> {
    let mut seen = HashSet::new();
    let hosts = table
        .hosts
        .iter()
        .filter(|host| check::host(&host.host).is_ok() && seen.insert(host.host.to_string()));
    let virtual_host = |host: &Arc<VirtualHost>| rt::VirtualHost {
        name: host.host.to_string(),
        domains: vec![host.host.to_string()],
        routes: std::iter::once(route::one_host_only())
            .chain((host.entries.iter()).flat_map(|entry| route::encode(entry, &host.host).routes))
            .collect(),
        ..Default::default()
    };
    rt::RouteConfiguration {
        name: table.id.0.to_string(),
        virtual_hosts: hosts.map(virtual_host).collect(),
        ..table_tail()
    }
    .encode_to_vec()
}

/// The clusters that a table refers to, found the plain way.
fn needs(table: &Table) -> Vec<Arc<str>> {
    let mut memo = TableMemo::default();
    memo.update(table, &mut Work::default());
    memo.needs.to_vec()
}

fn update(memo: &mut TableMemo, table: &Table) -> Work {
    let mut work = Work::default();
    memo.update(table, &mut work);
    assert_eq!(memo.body, plain(table));
    assert_eq!(memo.needs.to_vec(), needs(table));
    let decoded = rt::RouteConfiguration::decode(&*memo.body).unwrap();
    assert_eq!(decoded.name, &*table.id.0);
    work
}

fn routes(count: usize) -> Vec<Arc<RouteEntry>> {
    let route = |index| {
        entry(
            &format!("r{index:04}"),
            path(&format!("/p{index:04}")),
            to("c"),
        )
    };
    (0..count).map(route).collect()
}

#[test]
fn one_changed_entry_of_many_on_one_host_is_encoded_alone() {
    let mut entries = routes(1000);
    let mut memo = TableMemo::default();
    let first = update(
        &mut memo,
        &table("t", vec![host("a.example", entries.clone())]),
    );
    assert_eq!((first.entries, first.hosts, first.tables), (1000, 1, 1));
    let version = memo.version;

    entries[500] = entry("r0500", path("/p0500"), to("d"));
    let work = update(
        &mut memo,
        &table("t", vec![host("a.example", entries.clone())]),
    );
    assert_eq!((work.entries, work.hosts), (1, 1));
    assert_ne!(memo.version, version);
    assert_eq!(memo.needs.to_vec(), [Arc::from("c"), Arc::from("d")]);

    entries[500] = entry("r0500", path("/p0500"), to("c"));
    update(&mut memo, &table("t", vec![host("a.example", entries)]));
    assert_eq!(memo.version, version);
    assert_eq!(memo.needs.to_vec(), [Arc::from("c")]);
}

#[test]
fn insertions_removals_and_moves_encode_what_is_new_only() {
    let entries = routes(100);
    let of = |entries: &[Arc<RouteEntry>]| table("t", vec![host("a.example", entries.to_vec())]);
    let mut memo = TableMemo::default();
    update(&mut memo, &of(&entries));

    let mut more = entries.clone();
    more.push(entry("new", path("/p0050/x"), to("d")));
    assert_eq!(update(&mut memo, &of(&more)).entries, 1);
    assert_eq!(update(&mut memo, &of(&entries[1..])).entries, 0);
    assert_eq!(update(&mut memo, &of(&entries[40..])).entries, 0);
    assert_eq!(update(&mut memo, &of(&entries)).entries, 40);
    // An entry that moves to another place in the order.
    let mut moved = entries.clone();
    moved[0] = entry("r0000", path("/much/longer/so/it/comes/first"), to("c"));
    assert_eq!(update(&mut memo, &of(&moved)).entries, 1);
}

#[test]
fn one_changed_host_of_many_is_joined_alone() {
    let name = |index: usize| format!("h{index:04}.example");
    let mut hosts: Vec<_> = (0..1000)
        .map(|index| host(&name(index), routes(1)))
        .collect();
    let mut memo = TableMemo::default();
    let first = update(&mut memo, &table("t", hosts.clone()));
    assert_eq!((first.entries, first.hosts), (1000, 1000));

    hosts[300] = host(&name(300), vec![entry("r", path("/x"), to("d"))]);
    let work = update(&mut memo, &table("t", hosts.clone()));
    assert_eq!((work.entries, work.hosts, work.tables), (1, 1, 1));

    hosts.remove(500);
    hosts.push(host("new.example", routes(2)));
    let work = update(&mut memo, &table("t", hosts));
    assert_eq!((work.entries, work.hosts), (2, 1));
}

#[test]
fn an_entry_made_anew_with_the_same_content_is_not_encoded_again() {
    let mut memo = TableMemo::default();
    update(&mut memo, &table("t", vec![host("a.example", routes(10))]));
    let version = memo.version;
    let work = update(&mut memo, &table("t", vec![host("a.example", routes(10))]));
    assert_eq!(work.entries, 0);
    assert_eq!(memo.version, version);
}

#[test]
fn versions_are_equal_in_a_new_encoder_and_differ_with_the_order() {
    let of = |entries: Vec<Arc<RouteEntry>>| {
        let mut memo = TableMemo::default();
        memo.update(
            &table("t", vec![host("a.example", entries)]),
            &mut Work::default(),
        );
        memo.version
    };
    assert_eq!(of(routes(10)), of(routes(10)));
    // The same two answers for the same two paths, tried in the other order.
    let pair = |first: &str, second: &str| {
        vec![
            entry(first, path("/a"), status(201)),
            entry(second, path("/a"), status(202)),
        ]
    };
    assert_ne!(of(pair("a", "b")), of(pair("b", "a")));
}

#[test]
fn refused_hosts_and_entries_leave_the_others_and_come_back() {
    let good = entry("good", path("/good"), to("c"));
    let closed = entry("closed", path("/closed"), status(42));
    let left_out = entry("left-out", path("nonsense"), to("d"));
    let mut memo = TableMemo::default();
    let first = table(
        "t",
        vec![
            host(
                "a.example",
                vec![good.clone(), closed.clone(), left_out.clone()],
            ),
            host("*foo", vec![entry("star", path("/"), to("e"))]),
        ],
    );
    update(&mut memo, &first);
    assert_eq!(memo.needs.to_vec(), [Arc::from("c")]);
    let refused = |memo: &TableMemo| {
        let mut all = Vec::new();
        memo.refusals(&mut all);
        let mut names: Vec<String> = all.iter().map(|(at, _)| at.name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(refused(&memo), ["closed", "left-out", "star"]);

    // Two hosts of one name: the first counts. When it goes, the second is sent whole.
    let twin = |name: &str| host("a.example", vec![entry(name, path("/good"), to(name))]);
    let doubled = Table {
        hosts: vec![twin("one"), twin("two")],
        ..(*first).clone()
    };
    update(&mut memo, &doubled);
    assert_eq!(refused(&memo), ["two"]);
    assert_eq!(memo.needs.to_vec(), [Arc::from("one")]);
    let single = Table {
        hosts: vec![twin("two")],
        ..(*first).clone()
    };
    update(&mut memo, &single);
    assert_eq!(refused(&memo), [""; 0]);
    assert_eq!(memo.needs.to_vec(), [Arc::from("two")]);
}

/// A small world, so that states share much: entries of three kinds on a few hosts.
fn any_table() -> impl Strategy<Value = Vec<(usize, Vec<(u8, u8)>)>> {
    let entries = prop::collection::vec((0..8u8, 0..6u8), 0..8);
    prop::collection::vec((0..5usize, entries), 0..5)
}

fn build(state: &[(usize, Vec<(u8, u8)>)], pool: &mut Pool, sorted: bool) -> Table {
    let names = ["a.example", "*.example", "*", "b.example", "*bad"];
    let hosts = state
        .iter()
        .map(|(name, entries)| {
            let entries = entries.iter().map(|entry| pool.entry(*entry)).collect();
            let built = host(names[*name], entries);
            pool.host(built)
        })
        .collect::<Vec<_>>();
    let mut table = (*table("t", hosts)).clone();
    if !sorted {
        table.hosts.reverse();
    }
    table
}

/// Gives the same `Arc` for the same item, as the translator does.
#[derive(Default)]
struct Pool {
    entries: std::collections::HashMap<(u8, u8), Arc<RouteEntry>>,
    hosts: Vec<Arc<VirtualHost>>,
}

impl Pool {
    fn entry(&mut self, key: (u8, u8)) -> Arc<RouteEntry> {
        let make = || {
            let (name, kind) = key;
            let action = match kind {
                0 => status(200),
                1 => status(42),
                2 => to("c"),
                3 => postern_model::Action::Redirect(postern_model::Redirect {
                    scheme: Some("https".into()),
                    port: Some(443),
                    ..redirect(301)
                }),
                _ => postern_model::Action::Forward(vec![share(1, "c"), share(2, "d")]),
            };
            let at = if kind == 5 { "nonsense" } else { "/same" };
            entry(&format!("r{name}"), path(at), action)
        };
        self.entries.entry(key).or_insert_with(make).clone()
    }

    fn host(&mut self, host: Arc<VirtualHost>) -> Arc<VirtualHost> {
        if let Some(known) = self.hosts.iter().find(|known| **known == host) {
            return Arc::clone(known);
        }
        self.hosts.push(Arc::clone(&host));
        host
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever came before, also against the model's promises (doubled hosts, disorder), the
    /// joined bytes are those of the whole message, and versions tell different bytes apart.
    #[test]
    fn joined_bytes_are_those_of_the_whole_message(
        states in prop::collection::vec((any_table(), any::<bool>()), 1..6)
    ) {
        let mut pool = Pool::default();
        let mut memo = TableMemo::default();
        let mut seen: std::collections::HashMap<u64, Bytes> = std::collections::HashMap::new();
        for (state, sorted) in &states {
            let table = build(state, &mut pool, *sorted);
            update(&mut memo, &table);
            let known = seen.entry(memo.version).or_insert_with(|| memo.body.clone());
            prop_assert_eq!(&*known, &memo.body);

            let mut fresh = TableMemo::default();
            fresh.update(&table, &mut Work::default());
            prop_assert_eq!(fresh.version, memo.version);
            let (mut one, mut other) = (Vec::new(), Vec::new());
            fresh.refusals(&mut one);
            memo.refusals(&mut other);
            prop_assert_eq!(one, other);
        }
    }
}
