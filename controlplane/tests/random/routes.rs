//! Random routes, as files.

use proptest::prelude::RngExt;
use serde_json::{Map, Value, json};

use crate::generate::Random;

/// Hosts of good routes.
const HOSTS: [&str; 8] = [
    "a.shop.example",
    "b.shop.example",
    "B.Shop.Example",
    "*.shop.example",
    "*.b.shop.example",
    "other.test",
    "*.test",
    "*.x.test",
];
const BAD_HOSTS: [&str; 14] = [
    "",
    "*",
    "*.",
    "-a.test",
    "a..test",
    "\u{e9}.test",
    "a.test:80",
    "[::1]",
    "*.*.test",
    "a.test.",
    "127.0.0.1",
    "a.test\r\nx: y",
    "*a.test",
    "%REQ(host)%.test",
];
const HEADERS: [&str; 8] = [
    "x-a",
    "X-A",
    "x-b",
    "X-Version",
    "accept",
    "cookie",
    "user-agent",
    "authorization",
];
const BAD_HEADERS: [&str; 10] = [
    "", "a b", "host", "Host", ":path", "x_y", "\u{e9}", "x-a:", "x\r\ny", "(",
];
const VALUES: [&str; 8] = ["1", "2", "a b", "a,b", "\u{e9}", "\"1\"", "%20", "a=b;c"];
const BAD_VALUES: [&str; 6] = ["", "x\ny", " 1", "1 ", "\0", "a\tb"];
const PARAMETERS: [&str; 6] = ["q", "Q", "k", "a-b", "a.b", "%71"];
const BAD_PARAMETERS: [&str; 8] = ["", "a&b", "a=b", "#", "a b", "q[]", "\u{e9}", "a#b"];
const QUERIES: [&str; 8] = ["1", "2", "%20", "a=b", "a+b", "a/b", "a?b", "'\"{}"];
const BAD_QUERIES: [&str; 6] = ["", "a b", "a&b", "a#b", "\u{e9}", "\n"];
const METHODS: [&str; 6] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"];
const BAD_METHODS: [&str; 7] = ["get", "FOO", "CONNECT", "", "G T", "PROPFIND", "GET\r\n"];

impl Random {
    /// A route's file.
    pub fn route(&mut self, name: &str) -> String {
        self.bad = if self.chance(65) { 0 } else { 12 };
        let mut spec = Map::new();
        spec.insert("parentRefs".into(), self.parents());
        let hosts = self.some(3, |random| random.part(&HOSTS, &BAD_HOSTS));
        spec.insert("hostnames".into(), json!(hosts));
        let rules: Vec<Value> = (0..self.rng.random_range(1..4))
            .map(|_| self.rule())
            .collect();
        spec.insert("rules".into(), json!(rules));
        self.stray(&mut spec);
        let object = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": "team"},
            "spec": spec,
        });
        let mut text = object.to_string();
        if self.chance(self.bad / 4) {
            let mut at = self.rng.random_range(0..text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.truncate(at);
        }
        text
    }

    /// Sometimes a field that nobody knows, or one of a wrong type.
    fn stray(&mut self, into: &mut Map<String, Value>) {
        if self.chance(self.bad / 4) {
            let name = self.pick(&[
                "timeouts", "retry", "rules", "name", "matches", "\u{0}", "path",
            ]);
            let value = match self.rng.random_range(0..4) {
                0 => json!({"request": "10s"}),
                1 => json!(-1),
                2 => json!("x"),
                _ => Value::Null,
            };
            into.insert(name.to_owned(), value);
        }
    }

    fn parents(&mut self) -> Value {
        let mut parent = json!({"name": "web"});
        if self.chance(20) {
            parent["sectionName"] =
                json!(self.pick(&["all", "wild", "exact", "other", "tls", "tls-wild"]));
        }
        if self.chance(self.bad) {
            let field = self.pick(&["sectionName", "port", "name", "namespace", "kind"]);
            parent[field] = match self.rng.random_range(0..3) {
                0 => json!(8080),
                1 => json!("nothing"),
                _ => json!(""),
            };
        }
        json!([parent])
    }

    fn rule(&mut self) -> Value {
        let mut rule = Map::new();
        let matches = self.some(3, Random::matching);
        rule.insert("matches".into(), json!(matches));
        if self.chance(25) {
            rule.insert("filters".into(), self.filters());
        }
        if !rule.contains_key("filters") || self.chance(self.bad) {
            let backends = self.some(3, Random::backend);
            rule.insert("backendRefs".into(), json!(backends));
        }
        self.stray(&mut rule);
        rule.into()
    }

    fn matching(&mut self) -> Value {
        let mut matching = Map::new();
        if self.chance(85) {
            let mut path = json!({"value": self.path()});
            if self.chance(60) {
                path["type"] =
                    json!(self.part(&["PathPrefix", "Exact"], &["RegularExpression", "x"]));
            }
            matching.insert("path".into(), path);
        }
        if self.chance(25) {
            matching.insert("method".into(), json!(self.part(&METHODS, &BAD_METHODS)));
        }
        if self.chance(25) {
            let headers = self.some(2, |random| {
                let name = random.part(&HEADERS, &BAD_HEADERS);
                let value = random.part(&VALUES, &BAD_VALUES);
                random.value_match(&name, &value)
            });
            matching.insert("headers".into(), json!(headers));
        }
        if self.chance(25) {
            let query = self.some(2, |random| {
                let name = random.part(&PARAMETERS, &BAD_PARAMETERS);
                let value = random.part(&QUERIES, &BAD_QUERIES);
                random.value_match(&name, &value)
            });
            matching.insert("queryParams".into(), json!(query));
        }
        self.stray(&mut matching);
        matching.into()
    }

    fn value_match(&mut self, name: &str, value: &str) -> Value {
        let mut made = json!({"name": name, "value": value});
        if self.chance(20) {
            made["type"] = json!(self.part(&["Exact"], &["RegularExpression", ""]));
        }
        made
    }

    fn backend(&mut self) -> Value {
        let name = self.part(
            &["a", "b", "c"],
            &["none", "gone", "external", "", "a b", "../a"],
        );
        let mut backend = json!({"name": name, "port": 80});
        if self.chance(40) {
            let weights = [json!(0), json!(1), json!(2), json!(99), json!(1_000_000)];
            backend["weight"] = weights[self.rng.random_range(0..weights.len())].clone();
        }
        if self.chance(self.bad) {
            let field = self.pick(&["port", "weight", "kind", "group", "namespace", "filters"]);
            let odd = [
                json!(0),
                json!(81),
                json!(-1),
                json!(4_294_967_295_u64),
                json!(1.5),
                json!("x"),
                json!([]),
                Value::Null,
            ];
            backend[field] = odd[self.rng.random_range(0..odd.len())].clone();
        }
        backend
    }

    fn filters(&mut self) -> Value {
        let mut redirect = Map::new();
        if self.chance(50) {
            let scheme = self.part(&["http", "https"], &["ftp", "", "HTTP", "javascript"]);
            redirect.insert("scheme".into(), json!(scheme));
        }
        if self.chance(40) {
            let host = self.part(
                &["new.test", "New.Test", "1.2.3.4"],
                &[
                    "",
                    "*.test",
                    "a b",
                    "a.test:80",
                    "%REQ(x)%",
                    "a\r\nb",
                    "evil.test/",
                ],
            );
            redirect.insert("hostname".into(), json!(host));
        }
        if self.chance(40) {
            let ports = [json!(80), json!(443), json!(8080), json!(1), json!(65_535)];
            redirect.insert("port".into(), ports[self.rng.random_range(0..5)].clone());
        }
        if self.chance(50) {
            let path = self.path();
            let full = json!({"type": "ReplaceFullPath", "replaceFullPath": path});
            let prefix = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": path});
            let empty = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": ""});
            let empty_full = json!({"type": "ReplaceFullPath", "replaceFullPath": ""});
            let odd = json!({"type": "ReplaceFullPath", "replacePrefixMatch": path});
            let all = [full, prefix, empty, empty_full, odd];
            let good = if self.chance(self.bad) { 5 } else { 4 };
            redirect.insert("path".into(), all[self.rng.random_range(0..good)].clone());
        }
        if self.chance(50) {
            let codes = [301, 302, 303, 307, 308, 200, 304, 500, 99];
            let good = if self.chance(self.bad) { 9 } else { 5 };
            redirect.insert(
                "statusCode".into(),
                json!(codes[self.rng.random_range(0..good)]),
            );
        }
        let kind = self.part(
            &["RequestRedirect"],
            &[
                "URLRewrite",
                "RequestMirror",
                "CORS",
                "x",
                "requestRedirect",
            ],
        );
        json!([{"type": kind, "requestRedirect": redirect}])
    }
}
