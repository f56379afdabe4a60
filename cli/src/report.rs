//! What `check` found: the structure of `-o json` and `-o yaml`. It only grows; README.md
//! describes it for readers.

use serde::Serialize;

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What is wrong with files.
    pub files: Vec<FileFinding>,
    /// The GatewayInstances, by namespace and name.
    pub instances: Vec<Instance>,
    /// Gateways and HTTPRoutes, and objects of other kinds with problems.
    pub objects: Vec<Item>,
    /// What objects name and no file holds.
    pub absent: Vec<Absent>,
    /// Whether nothing is wrong: no file has an error, all instances are accepted, and no object
    /// has a problem or a wrong condition.
    pub ok: bool,
}

/// Something about a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileFinding {
    /// `error`: the file is not taken. `warning`: something in it is not read, and may have been
    /// meant for Postern. `note`: something in it is not read, and need not be.
    pub severity: &'static str,
    /// The file.
    pub path: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The object's kind and its `namespace/name`, as far as they are known.
    pub object: Option<String>,
    /// The field; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub advice: String,
}

/// A GatewayInstance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it gets anything.
    pub accepted: bool,
    /// The reason of its condition `Accepted`.
    pub reason: String,
    /// The message of that condition. Where a grant is missing it ends in the TenantGrant that an
    /// admin would apply.
    pub message: String,
    /// What else is wrong with it.
    pub problems: Vec<String>,
    /// No grant lets it have what it asks for, and the objects below are told of as if one did.
    pub as_if_granted: bool,
}

/// An object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for kinds without.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether Postern looks at it at all: false for what belongs to another controller.
    pub ours: bool,
    /// Where it comes from or why it is not ours; may be empty.
    pub note: String,
    /// What is wrong and no condition tells.
    pub problems: Vec<String>,
    /// The conditions that it would have.
    pub conditions: Vec<Condition>,
}

/// A condition as Postern would write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What of the object it is about: empty for the whole, `listener web`, `at default` for a
    /// route at a parent.
    pub about: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// Whether it tells that something is wrong. `Programmed` that only a running Envoy can tell
    /// is `Unknown` and not wrong.
    pub wrong: bool,
}

/// Something that no file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Absent {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for kinds without.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The objects that name it: kind and `namespace/name`.
    pub named_by: Vec<String>,
}

impl Instance {
    /// Whether something is wrong with it.
    pub fn is_wrong(&self) -> bool {
        !self.accepted || !self.problems.is_empty()
    }
}

impl Item {
    /// Whether something is wrong with it.
    pub fn is_wrong(&self) -> bool {
        !self.problems.is_empty() || self.conditions.iter().any(|condition| condition.wrong)
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        !(self.files.iter().any(|file| file.severity == "error")
            || self.instances.iter().any(Instance::is_wrong)
            || self.objects.iter().any(Item::is_wrong))
    }
}
