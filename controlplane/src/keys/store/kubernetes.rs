//! Secrets and a ConfigMap of fixed names.
//!
//! Needs `get`, `create`, `patch` and `update` on these names, and no `list` or `watch`. An object
//! is created by server-side apply without force, under the pod's own field manager: where two
//! replicas create at once, one gets a conflict and reads what the other made. (Under one common
//! manager each would take the other's fields.) From then on an object is only replaced, with the
//! `resourceVersion` that was read.
//!
//! What exists under such a name, whoever made it, is used if it fits and replaced if it does not:
//! type, labels and owners stay as they are, since a type cannot be changed, and owners only by
//! those who may delete. `immutable: true`, or a type that asks for other keys, is a refusal by
//! the API server, which the loop reports; only the tenant can delete such a Secret.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, Patch, PatchParams, PostParams};

use super::{Contents, Part, Store, StoreError, Stored};

const OPAQUE: &str = "Opaque";
const TLS: &str = "kubernetes.io/tls";

/// The names of an instance's objects, all in its namespace.
#[derive(Clone)]
pub struct Names {
    /// The Secret of the authorities.
    pub authority: String,
    /// The ConfigMap of the published authorities.
    pub public: String,
    /// The Secret of the xDS server.
    pub server: String,
    /// The Secret of a shard's Envoys.
    pub envoy: Arc<dyn Fn(&str) -> String + Send + Sync>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("authority", &self.authority)
            .field("public", &self.public)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Keeps contents in Secrets and a ConfigMap.
#[derive(Clone)]
pub struct KubernetesStore {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    names: Names,
    manager: String,
    labels: BTreeMap<String, String>,
    owner: Option<OwnerReference>,
}

/// An object as it was read, without its contents.
#[derive(Clone, Debug)]
pub struct Read {
    metadata: ObjectMeta,
    kind: Option<String>,
}

impl KubernetesStore {
    /// A store in a namespace. `manager` is the pod's name, 1 to 128 characters; what is created
    /// gets the labels and the owner, the `GatewayInstance`, with which it goes.
    #[must_use]
    pub fn new(
        client: kube::Client,
        namespace: &str,
        names: Names,
        manager: &str,
        labels: BTreeMap<String, String>,
        owner: Option<OwnerReference>,
    ) -> KubernetesStore {
        KubernetesStore {
            secrets: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client, namespace),
            names,
            manager: manager.to_owned(),
            labels,
            owner,
        }
    }

    fn name(&self, part: &Part) -> String {
        match part {
            Part::Authority => self.names.authority.clone(),
            Part::Public => self.names.public.clone(),
            Part::Server => self.names.server.clone(),
            Part::Envoy(shard) => (self.names.envoy)(shard),
        }
    }

    fn metadata(&self, name: &str, over: Option<&Read>) -> ObjectMeta {
        match over {
            Some(read) => read.metadata.clone(),
            None => ObjectMeta {
                name: Some(name.to_owned()),
                labels: (!self.labels.is_empty()).then(|| self.labels.clone()),
                owner_references: self.owner.clone().map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
        }
    }

    async fn write<K>(&self, api: &Api<K>, name: &str, object: &K, new: bool) -> kube::Result<K>
    where
        K: Clone + fmt::Debug + Serialize + DeserializeOwned,
    {
        if new {
            let params = PatchParams::apply(&self.manager);
            api.patch(name, &params, &Patch::Apply(object)).await
        } else {
            let params = PostParams {
                field_manager: Some(self.manager.clone()),
                ..PostParams::default()
            };
            api.replace(name, &params, object).await
        }
    }
}

impl Store for KubernetesStore {
    type Version = Read;

    async fn load(&self, parts: &[Part]) -> Result<Stored<Read>, StoreError> {
        let mut stored = Stored::new();
        for part in parts {
            let name = self.name(part);
            let failed = |error| failure(&name, &error);
            let entry = if *part == Part::Public {
                let found = self.maps.get_opt(&name).await.map_err(failed)?;
                found.map(|map| {
                    let texts = map.data.unwrap_or_default();
                    let bytes = texts
                        .into_iter()
                        .map(|(key, text)| (key, text.into_bytes()));
                    (Contents(bytes.collect()), read(map.metadata, None))
                })
            } else {
                let found = self.secrets.get_opt(&name).await.map_err(failed)?;
                found.map(|secret| {
                    let data = secret.data.unwrap_or_default();
                    let bytes = data.into_iter().map(|(key, value)| (key, value.0));
                    (
                        Contents(bytes.collect()),
                        read(secret.metadata, secret.type_),
                    )
                })
            };
            if let Some(entry) = entry {
                stored.insert(part.clone(), entry);
            }
        }
        Ok(stored)
    }

    async fn save(
        &self,
        part: &Part,
        contents: &Contents,
        over: Option<&Read>,
    ) -> Result<(), StoreError> {
        let name = self.name(part);
        let metadata = self.metadata(&name, over);
        let written = if *part == Part::Public {
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            let data = contents
                .0
                .iter()
                .map(|(key, bytes)| (key.clone(), text(bytes)));
            let map = ConfigMap {
                metadata,
                data: Some(data.collect()),
                ..ConfigMap::default()
            };
            self.write(&self.maps, &name, &map, over.is_none())
                .await
                .map(drop)
        } else {
            let data = contents
                .0
                .iter()
                .map(|(key, bytes)| (key.clone(), ByteString(bytes.clone())));
            let ours = if *part == Part::Authority {
                OPAQUE
            } else {
                TLS
            };
            let secret = Secret {
                metadata,
                data: Some(data.collect()),
                type_: over.map_or_else(|| Some(ours.to_owned()), |read| read.kind.clone()),
                ..Secret::default()
            };
            self.write(&self.secrets, &name, &secret, over.is_none())
                .await
                .map(drop)
        };
        written.map_err(|error| failure(&name, &error))
    }
}

fn read(mut metadata: ObjectMeta, kind: Option<String>) -> Read {
    // Large, and left to the API server when absent.
    metadata.managed_fields = None;
    Read { metadata, kind }
}

fn failure(name: &str, error: &kube::Error) -> StoreError {
    const LONGEST: usize = 300;
    match error {
        // Also "not found" for a replacement: it was deleted meanwhile.
        kube::Error::Api(status) if status.code == 409 || status.code == 404 => {
            StoreError::Conflict
        }
        kube::Error::Api(status) => {
            let message: String = status.message.chars().take(LONGEST).collect();
            StoreError::Failed(format!("{name}: {} {message}", status.code))
        }
        // Its text may hold a piece of what was read.
        kube::Error::SerdeError(_) => StoreError::Failed(format!("{name}: unreadable answer")),
        other => {
            let message: String = other.to_string().chars().take(LONGEST).collect();
            StoreError::Failed(format!("{name}: {message}"))
        }
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
