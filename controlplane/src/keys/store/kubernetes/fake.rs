//! What of an API server the store relies on: server-side apply with conflicts, replacing with
//! `resourceVersion`, types that cannot change, immutable Secrets, owners that only those who may
//! delete can change. Only the requests that the control plane may make are answered.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

#[derive(Clone, Default)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    version: u64,
    requests: Vec<String>,
}

struct Object {
    value: Value,
    /// Who owns the data, by key.
    managers: BTreeMap<String, String>,
}

type Answer = Result<Value, (u16, String)>;

impl FakeApi {
    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "team-a")
    }

    /// The requests so far, such as `GET secrets/web-ca`, and forgets them.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    pub fn object(&self, path: &str) -> Value {
        self.state.lock().unwrap().objects[path].value.clone()
    }

    /// Replaces an object, as someone who may do all.
    pub fn put(&self, path: &str, mut value: Value) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        value["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let managers = own(&value, "kubectl");
        state
            .objects
            .insert(path.to_owned(), Object { value, managers });
    }

    pub fn delete(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path);
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let prefix = "/api/v1/namespaces/team-a/";
        let path = parts
            .uri
            .path()
            .strip_prefix(prefix)
            .unwrap_or("?")
            .to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(format!("{} {path}", parts.method));
            let sent = serde_json::from_slice(&body).unwrap_or(Value::Null);
            state.act(&parts.method, &path, &query, sent)
        };
        let (code, value) = match answer {
            Ok(value) => (200, value),
            Err((code, message)) => {
                let reason = match code {
                    404 => "NotFound",
                    409 => "Conflict",
                    422 => "Invalid",
                    _ => "Forbidden",
                };
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Failure", "code": code, "reason": reason, "message": message});
                (code, status)
            }
        };
        let bytes = serde_json::to_vec(&value).unwrap();
        Response::builder()
            .status(code)
            .body(Body::from(bytes))
            .unwrap()
    }
}

impl State {
    fn act(&mut self, method: &Method, path: &str, query: &str, sent: Value) -> Answer {
        let named = path.split('/').collect::<Vec<_>>();
        if !matches!(named.as_slice(), ["secrets" | "configmaps", name] if !name.is_empty()) {
            return Err((403, format!("{method} {path} is forbidden")));
        }
        let manager = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("fieldManager="))
            .unwrap_or("unknown")
            .to_owned();
        let live = self.objects.get(path);
        let new = match method.as_str() {
            "GET" => {
                let missing = (404, format!("{path} not found"));
                return live.map(|object| object.value.clone()).ok_or(missing);
            }
            "PATCH" => {
                assert!(!query.contains("force=true"), "never by force");
                self.apply(live, sent, &manager)?
            }
            "PUT" => {
                let Some(live) = live else {
                    return Err((404, format!("{path} not found")));
                };
                replace(live, sent, &manager)?
            }
            other => return Err((403, format!("{other} is forbidden"))),
        };
        self.version += 1;
        let mut new = new;
        new.value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let value = new.value.clone();
        self.objects.insert(path.to_owned(), new);
        Ok(value)
    }

    fn apply(
        &self,
        live: Option<&Object>,
        sent: Value,
        manager: &str,
    ) -> Result<Object, (u16, String)> {
        let Some(live) = live else {
            let managers = own(&sent, manager);
            return Ok(Object {
                value: sent,
                managers,
            });
        };
        let mut value = live.value.clone();
        let mut managers = live.managers.clone();
        for (key, data) in sent["data"].as_object().into_iter().flatten() {
            let other = managers.get(key).is_some_and(|owner| owner != manager);
            if other && value["data"][key] != *data {
                return Err((
                    409,
                    format!("conflict with {:?} over data.{key}", managers[key]),
                ));
            }
            value["data"][key] = data.clone();
            managers.insert(key.clone(), manager.to_owned());
        }
        Ok(Object { value, managers })
    }
}

fn replace(live: &Object, sent: Value, manager: &str) -> Result<Object, (u16, String)> {
    let same = |pointer: &str| live.value.pointer(pointer) == sent.pointer(pointer);
    if !same("/metadata/resourceVersion") {
        return Err((409, "the object has been modified".into()));
    }
    if live.value["immutable"] == json!(true) && !same("/data") {
        return Err((
            422,
            "data: Forbidden: field is immutable when `immutable` is set".into(),
        ));
    }
    if !same("/type") {
        return Err((422, "type: Invalid value: field is immutable".into()));
    }
    if !same("/metadata/ownerReferences") {
        let message = "cannot set an ownerRef on a resource you can't delete";
        return Err((403, message.into()));
    }
    let managers = own(&sent, manager);
    Ok(Object {
        value: sent,
        managers,
    })
}

fn own(value: &Value, manager: &str) -> BTreeMap<String, String> {
    let data = value["data"].as_object().into_iter().flatten();
    data.map(|(key, _)| (key.clone(), manager.to_owned()))
        .collect()
}
