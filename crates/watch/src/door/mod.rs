//! The door: wire forms come in, compact objects go on.
//!
//! Each kind has a small *door type* that holds just the fields that Postern reads. Whatever else
//! an object of a Gateway API kind or of our own sets is named in [`Object::unsupported`]; what
//! does not decode becomes [`Body::Invalid`] with its field. Fields of the kinds of Kubernetes
//! itself that are not read are not named: a Service has dozens that do not concern a gateway.
//!
//! Architecture invariants: no wire form is kept, of no object; text from tenants is only ever a
//! value; nothing here fails for what a tenant wrote.

mod core;
mod decode;
mod gateway;
mod own;
mod policy;
mod route;
mod status;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;
use std::fmt;

use postern_refs::status::Status;
use postern_refs::{
    Body, FieldPath, Key, Kind, Map, Meta, Name, Object, Segment, Snapshot, Source,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use self::decode::{Unread, Wrong, decode};
pub use self::status::digest;
pub(crate) use self::status::{is_ours, message};
pub(crate) use self::types::ParentRefDoor;
use self::types::{Skip, names};
use crate::text::{Text, intern, readable};

/// The largest object that is read, in bytes of JSON. An API server stores no larger ones.
const LARGEST: usize = 4 << 20;

/// Labels of an object.
pub(crate) type Labels = BTreeMap<Name, Name>;

/// A kind that can be lowered.
pub trait Lower: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// Which kind it is.
    const KIND: Kind;
    /// Whether what is read stands under `spec`; else at the top of the object.
    const UNDER_SPEC: bool = true;
    /// Whether fields that are not read are named.
    const NAMES_UNREAD: bool = true;
    /// The wire form, as far as it is read.
    #[doc(hidden)]
    type Door: DeserializeOwned;

    /// Lowers the wire form, which stands at `base`.
    #[doc(hidden)]
    fn lower(door: Self::Door, inside: &mut Inside<'_>) -> Result<Self, Problem>;

    /// The part of a status that is ours; `None` if it cannot be read.
    #[doc(hidden)]
    fn status(_json: &str) -> Option<Status> {
        None
    }
    /// Whether Postern writes statuses of this kind.
    #[doc(hidden)]
    const HAS_STATUS: bool = false;

    /// This kind's objects.
    fn map(snapshot: &Snapshot) -> &Map<Self>;
    /// This kind's objects.
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self>;
}

/// Why a wire form that decodes cannot be lowered.
pub struct Problem(Wrong);

/// What lowering may look at besides the wire form, and where it says what it passed over.
pub struct Inside<'a> {
    base: FieldPath,
    labels: &'a Labels,
    unread: &'a mut Unread,
}

/// An object as it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Lowered<T> {
    /// The object.
    pub object: Object<T>,
    /// What its status says of ours; see [`Observed`](crate::Observed). The outer `None`: Postern
    /// writes no status of this kind. The inner: what is there cannot be read.
    pub observed: Option<Option<u64>>,
}

/// An object that cannot be told from others: it has no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Nameless {
    /// The field.
    pub field: FieldPath,
    /// Why, for people.
    pub reason: Name,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Envelope<'a> {
    #[serde(rename = "apiVersion")]
    _version: Option<Skip>,
    #[serde(rename = "kind")]
    _kind: Option<Skip>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct RawMeta<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    namespace: Option<&'a RawValue>,
    #[serde(borrow)]
    uid: Option<&'a RawValue>,
    #[serde(borrow)]
    generation: Option<&'a RawValue>,
    #[serde(borrow)]
    creation_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
}

impl Inside<'_> {
    /// Names a field that is not read.
    pub(crate) fn unread(&mut self, path: FieldPath) {
        self.unread.add(path);
    }

    /// Where the wire form stands in the object.
    pub(crate) fn base(&self) -> &FieldPath {
        &self.base
    }

    /// A label of the object.
    pub(crate) fn label(&self, name: &str) -> Option<&Name> {
        self.labels.get(name)
    }

    /// All labels of the object.
    pub(crate) fn labels(&self) -> &Labels {
        self.labels
    }

    /// What stands at a path below the wire form is wrong.
    pub(crate) fn wrong(&self, below: &str, reason: &str) -> Problem {
        let mut field = self.base.clone();
        field.0.extend(FieldPath::parse(below).0);
        Problem(Wrong::new(field, reason))
    }
}

/// Lowers an object from its JSON.
///
/// # Errors
/// Only if it has no name, so that it is no object of anybody's.
pub fn lower<T: Lower>(json: &str) -> Result<Lowered<T>, Nameless> {
    let root = FieldPath::default();
    let mut unread = Unread::default();
    let envelope: Envelope<'_> = decode(json, &root, T::UNDER_SPEC.then_some(&mut unread))
        .map_err(|wrong| Nameless {
            field: wrong.field,
            reason: wrong.reason,
        })?;
    let (meta, labels, bad_meta) = metadata(envelope.metadata.map_or("{}", RawValue::get))?;
    let result = match bad_meta {
        Some(wrong) => Err(wrong),
        None if json.len() > LARGEST => Err(Wrong::new(
            root,
            &format!("{} bytes of JSON, expected at most {LARGEST}", json.len()),
        )),
        None => body::<T>(json, &envelope, &labels, &mut unread),
    };
    let body = match result {
        Ok(value) => Body::Valid(value),
        Err(wrong) => {
            unread.0.clear();
            invalid(T::KIND, wrong)
        }
    };
    if !T::NAMES_UNREAD {
        unread.0.clear();
    }
    unread.0.sort_unstable();
    let observed = T::HAS_STATUS.then(|| {
        T::status(envelope.status.map_or("null", RawValue::get)).map(|status| digest(&status))
    });
    Ok(Lowered {
        object: Object {
            meta,
            body,
            unsupported: unread.0,
        },
        observed,
    })
}

fn body<T: Lower>(
    json: &str,
    envelope: &Envelope<'_>,
    labels: &Labels,
    unread: &mut Unread,
) -> Result<T, Wrong> {
    let mut base = FieldPath::default();
    let text = if T::UNDER_SPEC {
        base = base.field("spec");
        match envelope.spec {
            Some(spec) => spec.get(),
            None => return Err(Wrong::new(base, "required, but missing")),
        }
    } else {
        json
    };
    let door: T::Door = decode(text, &base, T::NAMES_UNREAD.then_some(&mut *unread))?;
    let mut inside = Inside {
        base,
        labels,
        unread,
    };
    T::lower(door, &mut inside).map_err(|problem| problem.0)
}

/// Reasons of a decoder quote what they found. What is in a Secret stays there.
fn invalid<T>(kind: Kind, wrong: Wrong) -> Body<T> {
    let reason = if kind == Kind::Secret {
        "cannot be read".into()
    } else {
        wrong.reason
    };
    Body::Invalid {
        field: wrong.field,
        reason,
    }
}

fn metadata(json: &str) -> Result<(Meta, Labels, Option<Wrong>), Nameless> {
    let base = FieldPath(vec![Segment::Field("metadata".into())]);
    let nameless = |wrong: Wrong| Nameless {
        field: wrong.field,
        reason: wrong.reason,
    };
    let raw: RawMeta<'_> = decode(json, &base, None).map_err(nameless)?;
    let mut bad: Option<Wrong> = None;

    let name = match raw.name {
        Some(name) => decode::<Text>(name.get(), &base.field("name"), None).map_err(nameless)?,
        None => {
            return Err(nameless(Wrong::new(
                base.field("name"),
                "required, but missing",
            )));
        }
    };
    if name.0.is_empty() {
        return Err(nameless(Wrong::new(base.field("name"), "empty")));
    }
    let namespace = optional::<Text>(raw.namespace, &base, "namespace", &mut bad);
    let uid = optional::<String>(raw.uid, &base, "uid", &mut bad);
    let generation = optional::<i64>(raw.generation, &base, "generation", &mut bad);
    let created = optional::<String>(raw.creation_timestamp, &base, "creationTimestamp", &mut bad)
        .map_or(0, |text| {
            match text.parse::<k8s_openapi::jiff::Timestamp>() {
                Ok(time) => time.as_microsecond(),
                Err(_) => {
                    let field = base.field("creationTimestamp");
                    let reason = format!("{}: no time of RFC 3339", readable(&text, 40));
                    bad.get_or_insert(Wrong::new(field, &reason));
                    0
                }
            }
        });
    let labels = optional::<BTreeMap<Text, Text>>(raw.labels, &base, "labels", &mut bad);

    let meta = Meta {
        key: Key {
            source: Source::LOCAL,
            namespace: namespace.map_or_else(|| intern(""), Name::from),
            name: name.into(),
        },
        uid: uid.unwrap_or_default().into(),
        generation: generation.unwrap_or(0),
        created,
    };
    Ok((meta, names(labels), bad))
}

/// A field of the metadata, absent or not; the first that does not decode is kept in `bad`.
fn optional<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    base: &FieldPath,
    name: &str,
    bad: &mut Option<Wrong>,
) -> Option<T> {
    match decode::<Option<T>>(raw?.get(), &base.field(name), None) {
        Ok(value) => value,
        Err(wrong) => {
            bad.get_or_insert(wrong);
            None
        }
    }
}

/// Runs an expression with `$lowered` standing for the type of a [`Kind`].
macro_rules! with_kind {
    ($kind:expr, $lowered:ident => $body:expr) => {
        match $kind {
            postern_refs::Kind::GatewayClass => {
                type $lowered = postern_refs::objects::GatewayClass;
                $body
            }
            postern_refs::Kind::Gateway => {
                type $lowered = postern_refs::objects::Gateway;
                $body
            }
            postern_refs::Kind::HttpRoute => {
                type $lowered = postern_refs::objects::HttpRoute;
                $body
            }
            postern_refs::Kind::Service => {
                type $lowered = postern_refs::objects::Service;
                $body
            }
            postern_refs::Kind::EndpointSlice => {
                type $lowered = postern_refs::objects::EndpointSlice;
                $body
            }
            postern_refs::Kind::Secret => {
                type $lowered = postern_refs::objects::TlsSecret;
                $body
            }
            postern_refs::Kind::ReferenceGrant => {
                type $lowered = postern_refs::objects::ReferenceGrant;
                $body
            }
            postern_refs::Kind::Namespace => {
                type $lowered = postern_refs::objects::Namespace;
                $body
            }
            postern_refs::Kind::GatewayInstance => {
                type $lowered = postern_api::GatewayInstanceSpec;
                $body
            }
            postern_refs::Kind::TenantGrant => {
                type $lowered = postern_api::TenantGrantSpec;
                $body
            }
        }
    };
}
pub(crate) use with_kind;
