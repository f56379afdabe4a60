//! Goldens: `tests/goldens/*.yaml`, each with its input, the model and the statuses. Run with
//! `UPDATE_GOLDENS=1` to write model and statuses anew, and read the diff.
//!
//! The input is what tenants and admins write, read as `serve --from` reads a directory of it, each
//! document a file of its own. Consent is computed by the code that the operator runs. The input
//! stays byte by byte as it is: what comes after its last line is made. `@CHAIN name@` and
//! `@KEY name@` stand for a certificate of that DNS name and its key, made anew in each run: no
//! private key lies in a repository, and none is shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use postern_consent::{Facts, consent};
use postern_model::{
    Action, Backend, Endpoint, Health, Listener, ListenerKind, Match, PathMatch, PathRewrite,
    Proxy, Redirect, RouteEntry, Target, Trust, Upstream, ValueMatch,
};
use postern_refs::status::{Status, Statuses};
use postern_refs::{Snapshot, instance, status};
use postern_translate::{Acks, Memo, Settings, finish, translate};
use serde::{Deserialize, Serialize};

/// The part that people write.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "what the case is about is for those who read it")]
struct Case {
    about: String,
    input: String,
}

/// The part that is made.
#[derive(Default, Serialize)]
struct Output {
    /// What is wrong with the files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<String>,
    /// Why an instance gets nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    refused: BTreeMap<String, String>,
    /// By instance and shard.
    model: BTreeMap<String, BTreeMap<String, Model>>,
    /// By object, by what of it they are about, by type.
    status: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
}

/// A proxy, for people.
#[derive(Serialize)]
struct Model {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    listeners: BTreeMap<String, Vec<String>>,
    /// By table and host, in the order in which they are tried.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tables: BTreeMap<String, BTreeMap<String, Vec<Entry>>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    clusters: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    endpoints: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<String>,
}

#[derive(Serialize)]
struct Entry {
    request: String,
    answer: Vec<String>,
    from: String,
}

impl Model {
    fn of(proxy: &Proxy) -> Model {
        let table = |table: &postern_model::Table| {
            let hosts = table.hosts.iter().map(|host| {
                let entries = host.entries.iter().map(|entry| Entry::of(entry)).collect();
                (host.host.to_string(), entries)
            });
            (table.id.0.to_string(), hosts.collect())
        };
        Model {
            listeners: proxy
                .listeners
                .values()
                .map(|one| (one.name.to_string(), listener(one)))
                .collect(),
            tables: proxy.tables.values().map(|one| table(one)).collect(),
            clusters: proxy
                .clusters
                .values()
                .map(|cluster| {
                    let upstream = match cluster.upstream {
                        Upstream::Http1 => "HTTP/1.1",
                        Upstream::H2c => "HTTP/2 without TLS",
                    };
                    let text = format!("{upstream}, for {}", cluster.origin);
                    (cluster.id.0.to_string(), text)
                })
                .collect(),
            endpoints: proxy
                .endpoints
                .values()
                .map(|of| {
                    let all = of.endpoints.iter().map(endpoint).collect();
                    (of.cluster.0.to_string(), all)
                })
                .collect(),
            secrets: proxy
                .secrets
                .values()
                .map(|secret| format!("{}, from {}", secret.id.0, secret.origin))
                .collect(),
        }
    }
}

fn listener(listener: &Listener) -> Vec<String> {
    let trust = match listener.trust {
        Trust::Nothing => "nothing".to_owned(),
        Trust::ForwardedHeaders { hops } => format!("the headers of {hops} proxies"),
        Trust::ProxyProtocol => "the PROXY protocol".to_owned(),
        Trust::Unknown => "nothing, of a client that nobody knows".to_owned(),
    };
    let mut lines = vec![format!(
        "port {} (to clients {}), believes {trust}, from {}",
        listener.port, listener.public_port, listener.origin
    )];
    match &listener.kind {
        ListenerKind::Http { table } => lines.push(format!("HTTP: table {}", table.0)),
        ListenerKind::Https { chains } => lines.extend(chains.iter().map(|chain| {
            let certificates: Vec<&str> = chain.certificates.iter().map(|id| &*id.0).collect();
            format!(
                "HTTPS {}: table {}, certificates {}, from {}",
                chain.server_name,
                chain.table.0,
                certificates.join(" "),
                chain.origin
            )
        })),
    }
    lines
}

fn endpoint(endpoint: &Endpoint) -> String {
    let health = match endpoint.health {
        Health::Ready => "ready",
        Health::Draining => "draining",
    };
    let at = std::net::SocketAddr::new(endpoint.address, endpoint.port);
    format!("{at} {health}")
}

impl Entry {
    fn of(entry: &RouteEntry) -> Entry {
        Entry {
            request: conditions(&entry.matcher),
            answer: match &entry.action {
                Action::Forward(backends) => backends.iter().map(share).collect(),
                Action::Redirect(redirect) => vec![self::redirect(redirect)],
                Action::Fixed(fixed) => {
                    vec![format!("{}, because {}", fixed.status, fixed.because)]
                }
            },
            from: entry.origin.to_string(),
        }
    }
}

fn conditions(matcher: &Match) -> String {
    let mut text = matcher.method.as_deref().unwrap_or("any").to_owned();
    match &matcher.path {
        PathMatch::Exact(path) => text += &format!(" exactly {path}"),
        PathMatch::Prefix(path) => text += &format!(" below {path}"),
    }
    for header in &matcher.headers {
        let ValueMatch::Exact(value) = &header.value;
        text += &format!(", header {} is {value:?}", header.name);
    }
    for query in &matcher.query {
        let ValueMatch::Exact(value) = &query.value;
        text += &format!(", query {} is {value:?}", query.name);
    }
    text
}

fn share(backend: &Backend) -> String {
    match &backend.target {
        Target::Cluster(id) => format!("{} to {}", backend.weight, id.0),
        Target::Broken(because) => format!("{} get 500, because {because}", backend.weight),
    }
}

fn redirect(redirect: &Redirect) -> String {
    let mut text = format!("{} to", redirect.status);
    let mut part = |name: &str, value: Option<String>| {
        text += &format!(" {name} {}", value.as_deref().unwrap_or("as asked"));
    };
    let words = |word: &Option<postern_model::Text>| word.as_deref().map(str::to_owned);
    part("scheme", words(&redirect.scheme));
    part("host", words(&redirect.host));
    part("port", redirect.port.map(|port| port.to_string()));
    let path = redirect.path.as_ref().map(|path| match path {
        PathRewrite::Full(path) => format!("{path:?}"),
        PathRewrite::Prefix(path) => format!("{path:?} and the rest"),
    });
    part("path", path);
    text
}

fn statuses(all: &Statuses, output: &mut Output) {
    for ((kind, key), status) in all {
        let mut about: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (what, condition) in status.conditions() {
            let what = if what.is_empty() { "itself" } else { &what };
            let text = format!(
                "{}, {}: {}",
                condition.status.as_str(),
                condition.reason,
                condition.message
            );
            let conditions = about.entry(what.to_owned()).or_default();
            conditions.insert(condition.kind.to_string(), text);
        }
        if let Status::Gateway(gateway) = &**status {
            for listener in &gateway.listeners {
                let kinds: Vec<&str> = listener
                    .supported_kinds
                    .iter()
                    .map(|kind| &*kind.kind)
                    .collect();
                let conditions = about
                    .entry(format!("listener {}", listener.name))
                    .or_default();
                conditions.insert(
                    "attachedRoutes".into(),
                    listener.attached_routes.to_string(),
                );
                conditions.insert("supportedKinds".into(), kinds.join(" "));
            }
        }
        output
            .status
            .insert(format!("{} {key}", kind.name()), about);
    }
}

/// The input with certificates in the place of their names.
fn with_certificates(input: &str) -> String {
    let mut made: BTreeMap<String, [String; 2]> = BTreeMap::new();
    let mut parts = input.split('@');
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let found = [("CHAIN ", 0), ("KEY ", 1)]
            .into_iter()
            .find_map(|(word, index)| Some((part.strip_prefix(word)?, index)));
        let Some((name, index)) = found else {
            text += part;
            continue;
        };
        let pair = made.entry(name.to_owned()).or_insert_with(|| {
            let pair = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            [pair.cert.pem(), pair.signing_key.serialize_pem()]
        });
        text += &pair[index].replace('\n', "\\n");
    }
    text
}

fn read(input: &str) -> (Snapshot, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    for (index, document) in with_certificates(input).split("---\n").enumerate() {
        let path = directory.path().join(format!("{:02}.yaml", index + 1));
        fs::write(path, document).unwrap();
    }
    let (snapshot, problems) = postern_watch::dir::read(directory.path());
    let problems = problems.iter().map(ToString::to_string).collect();
    (instance::with_gateways((*snapshot).clone()), problems)
}

/// What comes of an input.
fn output(input: &str) -> Output {
    let (snapshot, files) = read(input);
    let mut output = Output {
        files,
        ..Output::default()
    };
    let facts = Facts {
        classes: [postern_api::GATEWAY_CLASS.into()].into(),
        ..Facts::default()
    };
    let mut all = Statuses::new();
    for key in snapshot.instances.keys() {
        let found = consent(&snapshot, key, None, &facts);
        if let Some(refusal) = found.refusal {
            let text = format!("{}: {}", refusal.reason, refusal.message);
            output.refused.insert(key.to_string(), text);
            continue;
        }
        let mut memo = Memo::new(Settings::default());
        let translation = translate(&snapshot, &found.entitlement, &mut memo);
        let proxies = translation.proxies.iter();
        let models = proxies.map(|(shard, proxy)| (shard.to_string(), Model::of(proxy)));
        output.model.insert(key.to_string(), models.collect());
        status::merge(&mut all, finish(&translation, &Acks::new()));
    }
    statuses(&all, &mut output);
    output
}

/// Where the made part of a golden starts: the first line after the input that is not indented.
fn made_part(text: &str) -> usize {
    let mut at = 0;
    let mut within = false;
    for line in text.split_inclusive('\n') {
        if within && !line.starts_with([' ', '\n']) {
            break;
        }
        within |= line.starts_with("input: |");
        at += line.len();
    }
    at
}

/// The golden as it should be; `None` for a file that is none.
fn golden(path: &Path, text: &str) -> Option<String> {
    if path.extension().is_none_or(|extension| extension != "yaml") {
        return None;
    }
    let input = &text[..made_part(text)];
    let case: Case = serde_saphyr::from_str(input).ok()?;
    let output = serde_saphyr::to_string(&output(&case.input)).unwrap();
    Some(format!("{}\n{output}", input.trim_end()))
}

#[test]
fn model_and_statuses_are_as_in_the_goldens() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 20, "goldens are missing");
    let (mut wrong, mut orphans) = (Vec::new(), Vec::new());
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        match golden(&path, &text) {
            None if update => fs::remove_file(&path).unwrap(),
            None => orphans.push(path),
            Some(now) if now == text => {}
            Some(now) if update => fs::write(&path, now).unwrap(),
            Some(now) => wrong.push(format!("{}:\n{now}", path.display())),
        }
    }
    assert!(
        wrong.is_empty() && orphans.is_empty(),
        "other than the goldens, UPDATE_GOLDENS=1 writes them anew:\n{}\nno goldens, \
         UPDATE_GOLDENS=1 deletes them: {orphans:#?}",
        wrong.join("\n")
    );
}
