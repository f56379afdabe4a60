//! An object as it comes from an API server: its text, and no more of it understood than a watch
//! needs.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use postern_refs::{Key, Source};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::text::intern;

/// Any object, whatever is wrong with it: decoding one never fails a list or a watch. It is lowered
/// and dropped as it arrives.
#[derive(Clone)]
pub(super) struct Raw {
    /// Name, namespace and resource version only.
    meta: ObjectMeta,
    json: Box<RawValue>,
}

impl Raw {
    pub(super) fn json(&self) -> &str {
        self.json.get()
    }

    pub(super) fn key(&self) -> Option<Key> {
        Some(Key {
            source: Source::LOCAL,
            namespace: intern(self.meta.namespace.as_deref().unwrap_or_default()),
            name: intern(self.meta.name.as_deref()?),
        })
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a Secret.
        f.debug_struct("Raw")
            .field("name", &self.meta.name)
            .finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
struct Head {
    metadata: HeadMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let head: Head = serde_json::from_str(json.get()).unwrap_or_default();
        Ok(Raw {
            meta: ObjectMeta {
                name: head.metadata.name,
                namespace: head.metadata.namespace,
                resource_version: head.metadata.resource_version,
                ..ObjectMeta::default()
            },
            json,
        })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use kube::api::{ObjectList, WatchEvent};

    use super::*;

    #[test]
    fn a_bad_object_breaks_neither_list_nor_watch() {
        let list = r#"{"apiVersion":"x/v1","kind":"XList","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"a","resourceVersion":"1"},"spec":{"b":[1]}},{"metadata":5},7]}"#;
        let list: ObjectList<Raw> = serde_json::from_str(list).expect("a list");
        let names: Vec<_> = list
            .items
            .iter()
            .map(|item| item.key().map(|key| key.to_string()))
            .collect();
        assert_eq!(names, [Some("a".into()), None, None]);
        assert!(list.items[0].json().contains(r#""spec":{"b":[1]}"#));

        let event = r#"{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"n","resourceVersion":"7"},"spec":{"port":-1}}}"#;
        let Ok(WatchEvent::Added(raw)) = serde_json::from_str::<WatchEvent<Raw>>(event) else {
            panic!("no event")
        };
        assert_eq!(raw.meta().resource_version.as_deref(), Some("7"));
        assert_eq!(raw.key(), Some(Key::new("n", "a")));
        assert!(!format!("{raw:?}").contains("port"));
    }
}
