//! Postern's own kinds. Their wire forms are those of `postern-api`.

use postern_api::{GatewayInstanceSpec, TenantGrantSpec};
use postern_refs::{Kind, Map, Snapshot};

use super::{Inside, Lower, Problem};

impl Lower for GatewayInstanceSpec {
    const KIND: Kind = Kind::GatewayInstance;
    type Door = GatewayInstanceSpec;

    fn lower(door: GatewayInstanceSpec, _: &mut Inside<'_>) -> Result<Self, Problem> {
        Ok(door)
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.instances
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.instances
    }
}

impl Lower for TenantGrantSpec {
    const KIND: Kind = Kind::TenantGrant;
    type Door = TenantGrantSpec;

    fn lower(door: TenantGrantSpec, _: &mut Inside<'_>) -> Result<Self, Problem> {
        Ok(door)
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.tenant_grants
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.tenant_grants
    }
}
