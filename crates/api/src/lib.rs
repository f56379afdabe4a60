//! Postern's own kinds, the contract between its parts, and the names that it makes.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`instance`] | `GatewayInstance`: a namespace has a gateway |
//! | [`grant`] | `TenantGrant`: what a namespace may claim |
//! | [`entitlement`] | `Entitlement.status`: the contract between operator and control plane |
//! | [`names`] | one function makes every name that we stamp |
//! | [`ports`] | container ports, a stable function of Gateway and listener port |
//! | [`reasons`] | condition types and reasons |
//! | [`crds`] | the CustomResourceDefinitions of these kinds |

pub mod crds;
pub mod entitlement;
pub mod grant;
pub mod instance;
pub mod names;
pub mod ports;
pub mod reasons;

pub use entitlement::{Entitlement, EntitlementStatus};
pub use grant::{TenantGrant, TenantGrantSpec};
pub use instance::{GatewayInstance, GatewayInstanceSpec, GatewayInstanceStatus};

/// The API group of our own kinds.
pub const GROUP: &str = "postern.dev";
/// The group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The name that our GatewayClasses and statuses carry (`GatewayClass.spec.controllerName`).
pub const CONTROLLER_NAME: &str = "postern.dev/gateway-controller";
/// The name of the GatewayClass that the operator makes.
pub const GATEWAY_CLASS: &str = "postern";
/// The SPIFFE trust domain of instances' certificates.
pub const TRUST_DOMAIN: &str = "postern.local";
/// The shard that every Gateway is in unless it was moved.
pub const DEFAULT_SHARD: &str = "default";
/// The instance that a Gateway without `parametersRef` belongs to.
pub const DEFAULT_INSTANCE: &str = "default";
/// The folder in an Envoy's pod with `tls.crt`, `tls.key` and `ca.crt`: its certificate, and the
/// authorities of its instance.
pub const ENVOY_TLS_DIR: &str = "/etc/postern/tls";
