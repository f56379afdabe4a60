//! An API server in memory, for tests: lists, watches that go on after a revocation as real ones
//! do, status subresources, resource versions, refusals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::kube::Clients;

type Answer = Response<UnsyncBoxBody<Bytes, tower::BoxError>>;
/// `group/version/plural`, namespace, name.
type Path = (String, String, String);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Path, Value>,
    /// What happened: version, type, path, object.
    log: Vec<(u64, &'static str, Path, Value)>,
    served: BTreeMap<String, Vec<(String, String)>>,
    denied: BTreeSet<String>,
    requests: Vec<String>,
    no_streaming: bool,
    /// So many writes come too late, because another writes first.
    conflicts: u32,
}

/// Shared by its clones.
#[derive(Clone)]
pub(crate) struct Mock {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Mock {
    /// One that serves these: `group/version`, plural, kind.
    pub(crate) fn new(served: &[(&str, &str, &str)]) -> Mock {
        let mock = Mock {
            state: Arc::default(),
            changed: watch::Sender::new(0),
        };
        for (group_version, plural, kind) in served {
            mock.serve(group_version, plural, kind);
        }
        mock
    }

    pub(crate) fn gateway_api() -> Mock {
        let group = "gateway.networking.k8s.io/v1";
        Mock::new(&[
            (group, "gateways", "Gateway"),
            (group, "gateways/status", "Gateway"),
            (group, "httproutes", "HTTPRoute"),
            (
                "gateway.networking.k8s.io/v1beta1",
                "referencegrants",
                "ReferenceGrant",
            ),
        ])
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics within")
    }

    pub(crate) fn serve(&self, group_version: &str, plural: &str, kind: &str) {
        let mut state = self.lock();
        state
            .served
            .entry(group_version.into())
            .or_default()
            .push((plural.into(), kind.into()));
    }

    pub(crate) fn no_streaming(&self) {
        self.lock().no_streaming = true;
    }

    pub(crate) fn conflict(&self, times: u32) {
        self.lock().conflicts = times;
    }

    /// Refuses requests whose path and query contain this.
    pub(crate) fn deny(&self, part: &str) {
        self.lock().denied.insert(part.into());
    }

    pub(crate) fn allow(&self, part: &str) {
        self.lock().denied.remove(part);
    }

    /// The requests so far: method, path and query.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// Creates an object or replaces it whole.
    pub(crate) fn put(&self, resource: &str, object: &Value) {
        let name = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let path = (resource.to_owned(), name("namespace"), name("name"));
        let mut state = self.lock();
        let what = if state.objects.contains_key(&path) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.change(what, path, object.clone());
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let path = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let mut state = self.lock();
        let object = state.objects.remove(&path).expect("it is there");
        state.change("DELETED", path.clone(), object);
        state.objects.remove(&path);
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.lock()
            .objects
            .get(&(resource.into(), namespace.into(), name.into()))
            .cloned()
    }

    pub(crate) fn client(&self) -> Client {
        let mock = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let mock = mock.clone();
            async move { Ok::<_, tower::BoxError>(mock.answer(request).await) }
        });
        Client::new(service, "default")
    }

    pub(crate) fn clients(&self) -> Clients {
        let mock = self.clone();
        Clients::from_parts(self.client(), move || Ok(mock.client()))
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let target = parts
            .uri
            .path_and_query()
            .expect("a path")
            .as_str()
            .to_owned();
        self.lock()
            .requests
            .push(format!("{} {target}", parts.method));
        if self
            .lock()
            .denied
            .iter()
            .any(|part| target.contains(part.as_str()))
        {
            return status(403, "Forbidden");
        }
        let path: Vec<&str> = parts
            .uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        match *path {
            ["apis"] => self.groups(),
            ["apis", group, version] => self.resources(&format!("{group}/{version}")),
            ["apis", group, version, ref rest @ ..] => {
                self.object(&parts, &body, &format!("{group}/{version}"), rest)
            }
            ["api", version, ref rest @ ..] => self.object(&parts, &body, version, rest),
            _ => status(404, "NotFound"),
        }
    }

    fn groups(&self) -> Answer {
        let state = self.lock();
        let groups: Vec<Value> = state
            .served
            .keys()
            .map(|group_version| {
                let (group, version) = group_version.split_once('/').expect("a group");
                let versions = json!({"groupVersion": group_version, "version": version});
                json!({"name": group, "versions": [versions], "preferredVersion": versions})
            })
            .collect();
        ok(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
    }

    fn resources(&self, group_version: &str) -> Answer {
        let state = self.lock();
        let Some(served) = state.served.get(group_version) else {
            return status(404, "NotFound");
        };
        let resources: Vec<Value> = served
            .iter()
            .map(|(name, kind)| json!({"name": name, "kind": kind, "singularName": "", "namespaced": true, "verbs": []}))
            .collect();
        ok(
            &json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}),
        )
    }

    fn object(
        &self,
        parts: &http::request::Parts,
        body: &Bytes,
        group_version: &str,
        rest: &[&str],
    ) -> Answer {
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let plural = rest.first().copied().unwrap_or_default();
        let resource = format!("{group_version}/{plural}");
        if group_version.contains('/')
            && !group_version.starts_with("coordination")
            && !group_version.starts_with("discovery")
        {
            let state = self.lock();
            let served = state
                .served
                .get(group_version)
                .is_some_and(|list| list.iter().any(|(name, _)| name == plural));
            if !served {
                return status(404, "NotFound");
            }
        }
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.into(), value.replace("%3D", "=")))
            .collect();
        match (&parts.method, rest) {
            (&Method::GET, [_]) => {
                let name = query.get("fieldSelector").map(|selector| {
                    selector
                        .strip_prefix("metadata.name=")
                        .expect("a name")
                        .to_owned()
                });
                let asked = Asked {
                    resource,
                    namespace: namespace.into(),
                    name,
                };
                if query.get("watch").is_some_and(|watch| watch == "true") {
                    self.watch(asked, &query)
                } else {
                    self.list(&asked)
                }
            }
            (&Method::GET, [_, name]) => match self.get(&resource, namespace, name) {
                Some(object) => ok(&object),
                None => status(404, "NotFound"),
            },
            (method, [_, name, subresource @ ..]) => {
                let path = (resource, namespace.to_owned(), (*name).to_owned());
                self.write(method, &path, subresource.first() == Some(&"status"), body)
            }
            _ => status(405, "MethodNotAllowed"),
        }
    }

    fn list(&self, asked: &Asked) -> Answer {
        let state = self.lock();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(path, _)| asked.is(path))
            .map(|(_, object)| object)
            .collect();
        ok(
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string()}, "items": items}),
        )
    }

    fn watch(&self, asked: Asked, query: &BTreeMap<String, String>) -> Answer {
        let state = self.lock();
        let initial = query
            .get("sendInitialEvents")
            .is_some_and(|send| send == "true");
        if initial && state.no_streaming {
            return status(422, "Invalid");
        }
        let mut lines = String::new();
        let mut since: u64 = query["resourceVersion"].parse().expect("a version");
        if initial {
            for (_, object) in state.objects.iter().filter(|(path, _)| asked.is(path)) {
                lines.push_str(&line("ADDED", object));
            }
            let bookmark = json!({"kind": "X", "apiVersion": "v1", "metadata": {
                "resourceVersion": state.version.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"},
            }});
            lines.push_str(&line("BOOKMARK", &bookmark));
            since = state.version;
        }
        drop(state);
        let ends = tokio::time::Instant::now()
            + Duration::from_secs(query["timeoutSeconds"].parse().expect("seconds"));
        let (mock, changes) = (self.clone(), self.changed.subscribe());
        let events = stream::unfold(
            (lines, since, changes),
            move |(lines, mut since, mut changes)| {
                let (mock, asked) = (mock.clone(), asked.clone());
                async move {
                    let mut lines = lines;
                    loop {
                        if !lines.is_empty() {
                            let frame =
                                hyper::body::Frame::data(Bytes::from(std::mem::take(&mut lines)));
                            return Some((
                                Ok::<_, tower::BoxError>(frame),
                                (lines, since, changes),
                            ));
                        }
                        changes.borrow_and_update();
                        {
                            let (state, from) = (mock.lock(), since);
                            for (version, what, path, object) in
                                state.log.iter().filter(|(version, ..)| *version > from)
                            {
                                if asked.is(path) {
                                    lines.push_str(&line(what, object));
                                }
                                since = since.max(*version);
                            }
                        }
                        if lines.is_empty()
                            && tokio::time::timeout_at(ends, changes.changed())
                                .await
                                .is_err()
                        {
                            return None;
                        }
                    }
                }
            },
        );
        Response::new(StreamBody::new(events).boxed_unsync())
    }

    fn write(&self, method: &Method, path: &Path, only_status: bool, body: &Bytes) -> Answer {
        let new: Value = serde_json::from_slice(body).expect("JSON");
        let mut state = self.lock();
        let current = state.objects.get(path).cloned();
        if state.conflicts > 0 {
            state.conflicts -= 1;
            return status(409, "Conflict");
        }
        let written = match (method, current) {
            (&Method::PATCH, None) => new,
            // An apply without force over what another manager set.
            (&Method::PATCH, Some(_)) => return status(409, "Conflict"),
            (_, None) => return status(404, "NotFound"),
            (_, Some(mut current)) => {
                let version = &new["metadata"]["resourceVersion"];
                if version.is_string() && *version != current["metadata"]["resourceVersion"] {
                    return status(409, "Conflict");
                }
                if only_status {
                    current["status"] = new["status"].clone();
                    current
                } else {
                    new
                }
            }
        };
        let what = if state.objects.contains_key(path) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.change(what, path.clone(), written);
        let answer = ok(&state.objects[path]);
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        answer
    }
}

impl State {
    fn change(&mut self, what: &'static str, path: Path, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.log
            .push((self.version, what, path.clone(), object.clone()));
        self.objects.insert(path, object);
    }
}

#[derive(Clone)]
struct Asked {
    resource: String,
    namespace: String,
    name: Option<String>,
}

impl Asked {
    fn is(&self, (resource, namespace, name): &Path) -> bool {
        *resource == self.resource
            && (self.namespace.is_empty() || *namespace == self.namespace)
            && self.name.as_ref().is_none_or(|asked| asked == name)
    }
}

fn line(what: &str, object: &Value) -> String {
    // An API server writes the type first.
    format!("{{\"type\":\"{what}\",\"object\":{object}}}\n")
}

fn ok(value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string()));
    Response::new(body.map_err(tower::BoxError::from).boxed_unsync())
}

fn status(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason});
    let mut response = ok(&status);
    *response.status_mut() = http::StatusCode::from_u16(code).expect("a code");
    response
}
