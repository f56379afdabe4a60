//! From the text of a file to objects, with what an API server would set.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use postern_refs::{Body, FieldPath, Key, Kind, Object};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::problem::{FileProblem, Severity};
use super::yaml::{Broken, Node, line_within, parse_json, parse_yaml};
use crate::door::{Lower, lower, with_kind};
use crate::kinds::{is_namespaced, versions};
use crate::text::{intern, readable};

/// How deep lists of objects may stand in one another.
const DEEPEST_LIST: usize = 4;

/// An object of a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) key: Key,
    pub(super) line: u32,
    /// An `Object<T>` of the kind's type.
    pub(super) object: Arc<dyn Any + Send + Sync>,
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) entries: Vec<Entry>,
    /// Errors: the file is not taken.
    pub(super) errors: Vec<FileProblem>,
    /// Kinds that are not read: `apiVersion kind`, and how much that matters.
    pub(super) passed: Vec<(String, FileProblem)>,
}

#[derive(Deserialize)]
#[serde(
    rename_all = "camelCase",
    expecting = "an object with apiVersion and kind"
)]
struct Head<'a> {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
}

/// Reads a file's text.
pub(super) fn read(path: &Path, text: &str) -> Content {
    let mut reader = Reader {
        path,
        content: Content::default(),
    };
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let result = if is_json {
        reader.json(text)
    } else {
        reader.yaml(text)
    };
    if let Err(broken) = result {
        let mut problem = FileProblem::error(path, broken.message, "correct the syntax");
        problem.line = broken.line;
        reader.content.errors.push(problem);
    }
    reader.content
}

struct Reader<'a> {
    path: &'a Path,
    content: Content,
}

impl Reader<'_> {
    fn yaml(&mut self, text: &str) -> Result<(), Broken> {
        for node in parse_yaml(text)? {
            self.node(&node, 0);
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, depth: usize) {
        let kind = node.get("kind").and_then(Node::text).unwrap_or_default();
        if is_list(kind) && depth < DEEPEST_LIST {
            for item in node.get("items").and_then(Node::items).unwrap_or_default() {
                self.node(item, depth + 1);
            }
        } else {
            self.object(&node.to_json(), &|path| node.line_of(path));
        }
    }

    fn json(&mut self, text: &str) -> Result<(), Broken> {
        for (line, value) in parse_json(text)? {
            self.json_value(text, value.get(), line, 0);
        }
        Ok(())
    }

    fn json_value(&mut self, text: &str, value: &str, line: u32, depth: usize) {
        let head: Option<Head<'_>> = serde_json::from_str(value).ok();
        if let Some(head) = head
            && is_list(head.kind.as_deref().unwrap_or_default())
            && depth < DEEPEST_LIST
            && let Some(items) = head.items
            && let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(items.get())
        {
            for item in items {
                self.json_value(text, item.get(), line_within(text, item.get()), depth + 1);
            }
        } else {
            self.object(value, &|_| line);
        }
    }

    fn object(&mut self, json: &str, line_of: &dyn Fn(&FieldPath) -> u32) {
        let root = FieldPath::default();
        let head: Head<'_> = match serde_json::from_str(json) {
            Ok(head) => head,
            Err(_) => {
                return self.error(
                    line_of,
                    root,
                    "no object with apiVersion and kind",
                    "write an object, or remove it",
                );
            }
        };
        let (Some(api_version), Some(name)) = (head.api_version, head.kind) else {
            return self.error(line_of, root, "apiVersion or kind is missing", "write both");
        };
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let Some(kind) = Kind::find(group, &name) else {
            return self.pass(&api_version, &name, group, line_of);
        };
        if !versions(kind).contains(&version) {
            let message = format!(
                "version {} of {} is not read",
                readable(version, 40),
                kind.name()
            );
            let advice = format!("use {}", versions(kind)[0]);
            return self.error(line_of, root.field("apiVersion"), &message, &advice);
        }
        with_kind!(kind, T => self.lowered::<T>(json, line_of));
    }

    fn lowered<T: Lower>(&mut self, json: &str, line_of: &dyn Fn(&FieldPath) -> u32) {
        let mut object = match lower::<T>(json) {
            Ok(lowered) => lowered.object,
            Err(nameless) => {
                self.error(
                    line_of,
                    nameless.field,
                    &nameless.reason,
                    "give the object a name",
                );
                if let Some(problem) = self.content.errors.last_mut() {
                    problem.object = Some((T::KIND, "without a name".into()));
                }
                return;
            }
        };
        complete(&mut object);
        if let Body::Invalid { field, reason } = &object.body {
            self.error(line_of, field.clone(), reason, "correct the field");
            if let Some(problem) = self.content.errors.last_mut() {
                problem.object = Some((T::KIND, object.meta.key.to_string()));
            }
            return;
        }
        self.content.entries.push(Entry {
            kind: T::KIND,
            key: object.meta.key.clone(),
            line: line_of(&FieldPath::default()),
            object: Arc::new(object),
        });
    }

    fn error(
        &mut self,
        line_of: &dyn Fn(&FieldPath) -> u32,
        field: FieldPath,
        message: &str,
        advice: &str,
    ) {
        let mut problem = FileProblem::error(self.path, message, advice);
        problem.line = Some(line_of(&field));
        problem.field = field;
        self.content.errors.push(problem);
    }

    fn pass(
        &mut self,
        api_version: &str,
        name: &str,
        group: &str,
        line_of: &dyn Fn(&FieldPath) -> u32,
    ) {
        // Kubernetes' own groups have no dot, or end in `.k8s.io`. What stands in them is for
        // others; what stands in other groups may be a misspelling, or a kind that is not built.
        let gateway = group == postern_api::GATEWAY_GROUP;
        let foreign = !group.contains('.') || (group.ends_with(".k8s.io") && !gateway);
        let what = format!("{} {}", readable(api_version, 120), readable(name, 80));
        let (severity, advice) = if foreign {
            (Severity::Note, "")
        } else {
            (Severity::Warning, "check kind and apiVersion, or remove it")
        };
        let mut problem = FileProblem::error(self.path, format!("{what} is not read"), advice);
        problem.severity = severity;
        problem.line = Some(line_of(&FieldPath::default().field("kind")));
        self.content.passed.push((what, problem));
    }
}

fn is_list(kind: &str) -> bool {
    kind == "List"
        || kind
            .strip_suffix("List")
            .is_some_and(|item| Kind::ALL.iter().any(|known| known.name() == item))
}

/// Sets what an API server sets. Nothing depends on the order or the times of files.
pub(super) fn complete<T: Lower>(object: &mut Object<T>) {
    let meta = &mut object.meta;
    if !is_namespaced(T::KIND) {
        meta.key.namespace = intern("");
    } else if meta.key.namespace.is_empty() {
        meta.key.namespace = intern("default");
    }
    meta.created = 0;
    meta.generation = 1;
    meta.uid = uid(T::KIND, &meta.key).into();
    if let (Body::Valid(value), name) = (&mut object.body, &object.meta.key.name)
        && let Some(namespace) =
            (value as &mut dyn Any).downcast_mut::<postern_refs::objects::Namespace>()
    {
        namespace
            .labels
            .insert(intern("kubernetes.io/metadata.name"), name.clone());
    }
}

/// A UID that is the same for the same kind and key, in every run: a UUID of version 8.
pub(super) fn uid(kind: Kind, key: &Key) -> String {
    let mut hash = Sha256::new();
    for part in [kind.group(), kind.name(), &key.namespace, &key.name] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_stable_and_an_objects_own() {
        let one = uid(Kind::HttpRoute, &Key::new("a", "b"));
        assert_eq!(one, uid(Kind::HttpRoute, &Key::new("a", "b")));
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "8");
        let others = [
            uid(Kind::Gateway, &Key::new("a", "b")),
            uid(Kind::HttpRoute, &Key::new("ab", "")),
            uid(Kind::HttpRoute, &Key::new("", "ab")),
        ];
        assert!(!others.contains(&one));
        assert_ne!(others[1], others[2]);
    }

    fn problems(name: &str, text: &str) -> Vec<String> {
        let content = read(Path::new(name), text);
        let passed = content.passed.iter().map(|(_, problem)| problem);
        content
            .errors
            .iter()
            .chain(passed)
            .map(ToString::to_string)
            .collect()
    }

    const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: t}\nspec:\n  rules:\n  - backendRefs:\n    - name: s\n      port: 70000\n";

    #[test]
    fn problems_are_one_line_with_place_field_and_advice() {
        let hostile = "apiVersion: \"a\\nb/v1\"\nkind: \"K\\e[31m\"\nmetadata: {name: x}\n";
        let cases = [
            (
                "a/r.yaml",
                ROUTE,
                "a/r.yaml:8: HTTPRoute t/r: spec.rules[0].backendRefs[0].port: invalid value: integer `70000`, expected a whole number from 1 to 65535; correct the field",
            ),
            (
                "r.yml",
                "kind: Gateway\n",
                "r.yml:1: apiVersion or kind is missing; write both",
            ),
            (
                "r.yaml",
                "- 1\n",
                "r.yaml:1: no object with apiVersion and kind; write an object, or remove it",
            ),
            (
                "r.yaml",
                "---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: HTTPRoute\n",
                "r.yaml:2: apiVersion: version v1alpha2 of HTTPRoute is not read; use v1",
            ),
            (
                "r.yaml",
                "apiVersion: v1\nkind: Service\nmetadata: {labels: {a: b}}\n",
                "r.yaml:3: Service without a name: metadata.name: required, but missing; give the object a name",
            ),
            (
                "r.yaml",
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HttpRoute\nmetadata: {name: x}\n",
                "r.yaml:2: gateway.networking.k8s.io/v1 HttpRoute is not read; check kind and apiVersion, or remove it",
            ),
            (
                "r.yaml",
                "apiVersion: apps/v1\nkind: Deployment\n",
                "r.yaml:2: apps/v1 Deployment is not read",
            ),
            (
                "r.yaml",
                "apiVersion: networking.k8s.io/v1\nkind: Ingress\n",
                "r.yaml:2: networking.k8s.io/v1 Ingress is not read",
            ),
            (
                "r.yaml",
                hostile,
                "r.yaml:2: a\\u{a}b/v1 K\\u{1b}[31m is not read",
            ),
            (
                "r.json",
                "{\n \"kind\": \"Gateway\",\n}",
                "r.json:3: key must be a string; correct the syntax",
            ),
        ];
        for (name, text, expected) in cases {
            assert_eq!(problems(name, text), [expected]);
        }
    }

    #[test]
    fn lists_and_several_documents_are_read_in_order() {
        let service = |name: &str| {
            format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{}}}}")
        };
        let text = format!(
            "apiVersion: v1\nkind: List\nitems:\n- {}\n- apiVersion: v1\n  kind: ServiceList\n  items: [{}]\n---\n{}\n",
            service("a"),
            service("b"),
            service("c"),
        );
        let keys = |content: &Content| -> Vec<(String, u32)> {
            content
                .entries
                .iter()
                .map(|entry| (entry.key.to_string(), entry.line))
                .collect()
        };
        let content = read(Path::new("x.yaml"), &text);
        assert!(content.errors.is_empty(), "{:?}", content.errors);
        assert_eq!(
            keys(&content),
            [
                ("default/a".into(), 4),
                ("default/b".into(), 7),
                ("default/c".into(), 9)
            ]
        );
        let json = "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"n\",\"namespace\":\"x\"}}]}";
        let content = read(Path::new("x.json"), json);
        assert_eq!(keys(&content), [("n".into(), 2)]);
        let object = content.entries[0]
            .object
            .downcast_ref::<Object<postern_refs::objects::Namespace>>()
            .expect("Namespace");
        assert_eq!(
            object
                .valid()
                .expect("valid")
                .labels
                .get("kubernetes.io/metadata.name")
                .map(|v| &**v),
            Some("n")
        );
        assert_eq!(
            (
                object.meta.created,
                object.meta.generation,
                object.meta.uid.len()
            ),
            (0, 1, 36)
        );
    }
}
