//! Random requests, near to what the routes say.

use std::sync::Arc;

use postern_model::{Host, ListenerKind, PathMatch, Proxy, RouteEntry, Table, ValueMatch};
use proptest::prelude::RngExt;

use crate::evaluate::{Request, is_unreserved};
use crate::generate::Random;

/// Hosts that requests ask for.
const ASKED: [&str; 16] = [
    "a.shop.example",
    "A.SHOP.example",
    "a.shop.example:80",
    "a.shop.example:8080",
    "b.shop.example",
    "c.b.shop.example",
    "d.c.b.shop.example:81",
    "x.shop.example",
    "shop.example",
    "other.test",
    "y.other.test",
    "z.x.test",
    "x.test",
    "nobody.invalid",
    "other.test.",
    "[::1]:80",
];
/// The listeners of HTTPS serve these names.
const SERVER_NAMES: [&str; 3] = ["a.shop.example", "b.shop.example", "x.shop.example"];

impl Random {
    /// A request to one of the listeners, near to an entry of its table.
    pub fn request(&mut self, proxy: &Proxy) -> Request {
        self.bad = 8;
        let listeners: Vec<_> = proxy.listeners.values().collect();
        let listener = listeners[self.rng.random_range(0..listeners.len())];
        let (id, server_name) = match &listener.kind {
            ListenerKind::Http { table } => (table, None),
            ListenerKind::Https { chains } => {
                let name = self.pick(&SERVER_NAMES);
                let taking = chains.iter().find(|chain| match &chain.server_name {
                    Host::Exact(exact) => **exact == *name,
                    _ => true,
                });
                (
                    &taking.expect("one takes each").table,
                    Some(name.to_owned()),
                )
            }
        };
        let table = &proxy.tables[id];
        let (host, entry) = self.entry(table);
        let mut request = Request {
            port: listener.public_port,
            server_name,
            method: "GET".to_owned(),
            target: "/".to_owned(),
            hosts: vec![host],
            headers: Vec::new(),
        };
        if let Some(entry) = entry {
            self.meet(&mut request, &entry);
        }
        self.miss(&mut request);
        request
    }

    /// A host, and an entry that may decide there.
    fn entry(&mut self, table: &Table) -> (String, Option<Arc<RouteEntry>>) {
        let served: Vec<_> = table
            .hosts
            .iter()
            .filter(|host| !host.entries.is_empty())
            .collect();
        if served.is_empty() || self.chance(15) {
            return (self.pick(&ASKED).to_owned(), None);
        }
        let host = served[self.rng.random_range(0..served.len())];
        let entry = &host.entries[self.rng.random_range(0..host.entries.len())];
        let name = match &host.host {
            Host::Exact(name) => name.to_string(),
            Host::Wildcard(suffix) => {
                format!("{}.{suffix}", self.pick(&["x", "a", "b", "c.b", "z.y"]))
            }
            Host::Any => self.pick(&ASKED).to_owned(),
        };
        (name, Some(entry.clone()))
    }

    /// Makes a request that an entry asks for, in one of its forms.
    fn meet(&mut self, request: &mut Request, entry: &RouteEntry) {
        let wanted = &entry.matcher;
        request.target = match &wanted.path {
            PathMatch::Exact(path) => path.to_string(),
            PathMatch::Prefix(prefix) => {
                let below = self.pick(&["", "/", "/x", "/bar/", "bar", "/%20", "/a.b"]);
                format!("{}{below}", prefix.trim_end_matches('/'))
            }
        };
        if request.target.is_empty() {
            request.target.push('/');
        }
        if self.chance(20) {
            request.target = self.same(&request.target);
        }
        if let Some(method) = &wanted.method {
            request.method = method.to_string();
        }
        for header in &wanted.headers {
            let ValueMatch::Exact(value) = &header.value;
            let name = match self.chance(50) {
                true => header.name.to_ascii_uppercase(),
                false => header.name.to_string(),
            };
            let padded = match self.chance(20) {
                true => format!("  {value}\t"),
                false => value.to_string(),
            };
            request.headers.push((name, padded));
        }
        let mut query: Vec<String> = wanted
            .query
            .iter()
            .map(|parameter| {
                let ValueMatch::Exact(value) = &parameter.value;
                format!("{}={value}", parameter.name)
            })
            .collect();
        if self.chance(20) {
            query.insert(0, self.pick(&["", "z", "z=1", "=", "q", "k=9"]).to_owned());
        }
        if self.chance(20) {
            query.push(self.pick(&["q=1", "Q=2", "/../x", "q=%31"]).to_owned());
        }
        if !query.is_empty() {
            request.target += &format!("?{}", query.join("&"));
        }
    }

    /// The same path in another spelling.
    fn same(&mut self, path: &str) -> String {
        match self.rng.random_range(0..5) {
            0 => path.replacen('/', "//", 1),
            1 => path.replacen('/', "/./", 1),
            2 => path.replacen('/', "/zz/../", 1),
            3 => path.replacen('/', "/zz/%2e%2E/", 1),
            _ => path
                .char_indices()
                .map(|(at, c)| {
                    let escape = path[..at].rfind('%').is_some_and(|start| at - start <= 2);
                    let plain = u8::try_from(c).is_ok_and(is_unreserved) && !escape;
                    match plain && self.chance(50) {
                        true => format!("%{:02x}", u32::from(c)),
                        false => c.to_string(),
                    }
                })
                .collect(),
        }
    }

    /// Sometimes makes it another request, near or far.
    fn miss(&mut self, request: &mut Request) {
        if self.chance(10) {
            request.target = match self.rng.random_range(0..4) {
                0 => format!("{}bar", request.target),
                1 => format!("{}/", request.target),
                2 => request.target.to_ascii_uppercase(),
                _ => self.path(),
            };
        }
        if self.chance(4) {
            request.target = self
                .pick(&[
                    "*",
                    "",
                    "foo",
                    "/a%2fb",
                    "/a%5Cb",
                    "/%00",
                    "/a#b",
                    "/\u{e9}",
                    "/a\tb",
                    "/?a#",
                    "/\\..\\foo",
                    "/foo\\bar",
                    "/a<b>\"{|}",
                    "/foo/%2e%2e%2fbar",
                    "/%zz",
                    "/?q=\u{e9}",
                    "/;/foo",
                    "/foo;x/bar",
                    "/foo?/../bar?q=1",
                ])
                .to_owned();
        }
        if self.chance(4) && request.server_name.is_none() && request.target.starts_with('/') {
            let host = self.pick(&ASKED);
            let scheme = self.pick(&["http", "http", "http", "https"]);
            request.target = format!("{scheme}://{host}{}", request.target);
        }
        if self.chance(8) {
            request.method = self
                .pick(&[
                    "GET", "POST", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "FOO", "",
                ])
                .to_owned();
        }
        if self.chance(6) {
            request.hosts = match self.rng.random_range(0..5) {
                0 => vec![],
                1 => vec![self.pick(&ASKED).to_owned(), self.pick(&ASKED).to_owned()],
                2 => vec![
                    self.pick(&["", "a b", "a/b", "a,b", "\u{e9}", "a?b", "*.test"])
                        .to_owned(),
                ],
                _ => vec![self.pick(&ASKED).to_owned()],
            };
        }
        if self.chance(10) && !request.headers.is_empty() {
            let at = self.rng.random_range(0..request.headers.len());
            let (name, value) = request.headers[at].clone();
            match self.rng.random_range(0..3) {
                0 => drop(request.headers.remove(at)),
                1 => request.headers.insert(at, (name, "other".to_owned())),
                _ => request.headers[at] = (name, format!("{value}x")),
            }
        }
        if self.chance(8) {
            let header = match self.rng.random_range(0..6) {
                0 => ("x_a", "1"),
                1 => ("a b", "1"),
                2 => ("x-c", "a\u{1}b"),
                3 => ("x-c", "\u{e9}"),
                _ => ("x-a", "1"),
            };
            request
                .headers
                .push((header.0.to_owned(), header.1.to_owned()));
        }
    }
}
