//! ReferenceGrant, of versions v1beta1 and v1, which are alike.

use postern_refs::objects::{GrantFrom, GrantTo, ReferenceGrant};
use postern_refs::{Kind, Map, Name, Snapshot};
use serde::Deserialize;

use super::types::List;
use super::{Inside, Lower, Problem};
use crate::text::Text;

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub struct GrantDoor {
    from: List<FromDoor, 16>,
    to: List<ToDoor, 16>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with group, kind and namespace")]
struct FromDoor {
    group: Text,
    kind: Text,
    namespace: Text,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with group and kind")]
struct ToDoor {
    group: Text,
    kind: Text,
    name: Option<Text>,
}

impl Lower for ReferenceGrant {
    const KIND: Kind = Kind::ReferenceGrant;
    type Door = GrantDoor;

    fn lower(door: GrantDoor, _: &mut Inside<'_>) -> Result<Self, Problem> {
        Ok(ReferenceGrant {
            from: door.from.map(|from| GrantFrom {
                group: from.group.into(),
                kind: from.kind.into(),
                namespace: from.namespace.into(),
            }),
            to: door.to.map(|to| GrantTo {
                group: to.group.into(),
                kind: to.kind.into(),
                // An empty name is none: any object of the kind (v1beta1's `omitempty`).
                name: to.name.map(Name::from).filter(|name| !name.is_empty()),
            }),
        })
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.reference_grants
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.reference_grants
    }
}
