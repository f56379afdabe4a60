//! Parts that the wire forms of several kinds share.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use postern_refs::objects::{
    BackendRef, ParentRef, Selector, SelectorOperator, SelectorRequirement,
};
use postern_refs::{Name, ObjectRef};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use crate::text::{Text, intern};

/// A list of at most `MAX` items; `null` is an empty one. The bounds are those of the API's
/// schemas, so that a source without an API server is bounded as well.
#[derive(Debug)]
pub(crate) struct List<T, const MAX: usize>(pub(crate) Vec<T>);

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<T, const MAX: usize> List<T, MAX> {
    pub(crate) fn map<U>(self, each: impl FnMut(T) -> U) -> Vec<U> {
        self.0.into_iter().map(each).collect()
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Visit<T, MAX> {
            type Value = List<T, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} items")
            }
            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(List::default())
            }
            fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
                Ok(List::default())
            }
            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
                inner.deserialize_seq(self)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while list.len() < MAX {
                    match items.next_element()? {
                        Some(item) => list.push(item),
                        None => return Ok(List(list)),
                    }
                }
                match items.next_element::<Skip>()? {
                    None => Ok(List(list)),
                    Some(_) => Err(A::Error::custom(format_args!("more than {MAX} items"))),
                }
            }
        }
        deserializer.deserialize_option(Visit(PhantomData))
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: i64, const MAX: i64>(pub(crate) i64);

/// A port.
pub(crate) type Port = Whole<1, 65_535>;

impl Port {
    pub(crate) fn number(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }
}

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<const MIN: i64, const MAX: i64>;
        impl<const MIN: i64, const MAX: i64> Visitor<'_> for Visit<MIN, MAX> {
            type Value = Whole<MIN, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                if (MIN..=MAX).contains(&number) {
                    Ok(Whole(number))
                } else {
                    Err(E::invalid_value(Unexpected::Signed(number), &self))
                }
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                match i64::try_from(number) {
                    Ok(number) => self.visit_i64(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
                }
            }
        }
        deserializer.deserialize_i64(Visit)
    }
}

/// A value that is accepted and not kept, however deep it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Skip;

impl<'de> Deserialize<'de> for Skip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Skip, D::Error> {
        // Not `IgnoredAny`: that is how unsupported fields are found.
        <&RawValue>::deserialize(deserializer).map(|_| Skip)
    }
}

fn or(value: Option<Text>, default: &str) -> Name {
    value.map_or_else(|| intern(default), Name::from)
}

/// `ParentReference`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a parent reference")]
pub(crate) struct ParentRefDoor {
    group: Option<Text>,
    kind: Option<Text>,
    namespace: Option<Text>,
    name: Text,
    section_name: Option<Text>,
    port: Option<Port>,
}

impl From<ParentRefDoor> for ParentRef {
    fn from(door: ParentRefDoor) -> ParentRef {
        ParentRef {
            group: or(door.group, postern_api::GATEWAY_GROUP),
            kind: or(door.kind, "Gateway"),
            namespace: door.namespace.map(Name::from),
            name: door.name.into(),
            section: door.section_name.map(Name::from),
            port: door.port.map(Port::number),
        }
    }
}

/// `HTTPBackendRef`. Its filters are not read.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a backend reference")]
pub(crate) struct BackendRefDoor {
    group: Option<Text>,
    kind: Option<Text>,
    namespace: Option<Text>,
    name: Text,
    port: Option<Port>,
    weight: Option<Whole<0, 1_000_000>>,
}

impl From<BackendRefDoor> for BackendRef {
    fn from(door: BackendRefDoor) -> BackendRef {
        BackendRef {
            group: or(door.group, ""),
            kind: or(door.kind, "Service"),
            namespace: door.namespace.map(Name::from),
            name: door.name.into(),
            port: door.port.map(Port::number),
            weight: door
                .weight
                .map_or(1, |weight| u32::try_from(weight.0).unwrap_or(0)),
        }
    }
}

/// A reference whose group and kind must be written.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a reference with group, kind and name")]
pub(crate) struct FullRefDoor {
    group: Text,
    kind: Text,
    namespace: Option<Text>,
    name: Text,
}

impl From<FullRefDoor> for ObjectRef {
    fn from(door: FullRefDoor) -> ObjectRef {
        ObjectRef {
            group: door.group.into(),
            kind: door.kind.into(),
            namespace: door.namespace.map(Name::from),
            name: door.name.into(),
        }
    }
}

/// `LocalParametersReference`: within the namespace.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a reference with group, kind and name")]
pub(crate) struct LocalRefDoor {
    group: Text,
    kind: Text,
    name: Text,
}

impl From<LocalRefDoor> for ObjectRef {
    fn from(door: LocalRefDoor) -> ObjectRef {
        ObjectRef {
            group: door.group.into(),
            kind: door.kind.into(),
            namespace: None,
            name: door.name.into(),
        }
    }
}

/// `SecretObjectReference`: a Secret unless it says otherwise.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a reference to a Secret")]
pub(crate) struct SecretRefDoor {
    group: Option<Text>,
    kind: Option<Text>,
    namespace: Option<Text>,
    name: Text,
}

impl From<SecretRefDoor> for ObjectRef {
    fn from(door: SecretRefDoor) -> ObjectRef {
        ObjectRef {
            group: or(door.group, ""),
            kind: or(door.kind, "Secret"),
            namespace: door.namespace.map(Name::from),
            name: door.name.into(),
        }
    }
}

/// `metav1.LabelSelector`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a label selector")]
pub(crate) struct SelectorDoor {
    match_labels: Option<BTreeMap<Text, Text>>,
    #[serde(default)]
    match_expressions: List<RequirementDoor, 64>,
}

/// `metav1.LabelSelectorRequirement`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a requirement with key and operator")]
pub(crate) struct RequirementDoor {
    key: Text,
    operator: Text,
    #[serde(default)]
    values: List<Text, 256>,
}

impl From<SelectorDoor> for Selector {
    fn from(door: SelectorDoor) -> Selector {
        Selector {
            labels: names(door.match_labels),
            requirements: door
                .match_expressions
                .map(|requirement| SelectorRequirement {
                    key: requirement.key.into(),
                    operator: match &*requirement.operator.0 {
                        "In" => SelectorOperator::In,
                        "NotIn" => SelectorOperator::NotIn,
                        "Exists" => SelectorOperator::Exists,
                        "DoesNotExist" => SelectorOperator::DoesNotExist,
                        _ => SelectorOperator::Other(requirement.operator.into()),
                    },
                    values: requirement.values.map(Name::from),
                }),
        }
    }
}

/// A map of texts, absent or not.
pub(crate) fn names(map: Option<BTreeMap<Text, Text>>) -> BTreeMap<Name, Name> {
    map.unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}
