//! What the installation says, and what the cluster gave.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What holds for all instances. Set by the operator's command line and environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Images of the pods.
    pub images: Images,
    /// Where control planes may reach API servers.
    pub api_servers: ApiServers,
    /// Namespaces whose pods may read metrics.
    #[serde(default)]
    pub monitoring_namespaces: BTreeSet<String>,
    /// The address that pods listen on: `0.0.0.0`, or `::` where pods have IPv6 only.
    #[serde(default = "any_v4")]
    pub listen: IpAddr,
    /// Seconds that certificates between Envoys and control planes live; `None` leaves it to the
    /// control planes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_seconds: Option<u64>,
    /// The operator's own namespace: its ServiceAccount there reads what control planes publish.
    pub operator_namespace: String,
}

/// Images of the pods, by digest where that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// The control plane.
    pub control_plane: String,
    /// Envoy with its supervisor.
    pub proxy: String,
}

/// Where control planes may reach API servers. Policies see traffic after the Service's
/// translation, so the address of `default/kubernetes` itself is of no use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ApiServers {
    /// At these addresses: the endpoints of `default/kubernetes`.
    Endpoints(BTreeSet<SocketAddr>),
    /// At any address on these ports, for networks that match no node by its address (Cilium).
    Ports(BTreeSet<u16>),
}

/// What the cluster gave to what was stamped before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Observed {
    /// The address of the control plane's Service (`spec.clusterIP`). Envoys resolve its name while
    /// this is unknown, and may then reach DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<IpAddr>,
    /// The instance's authorities as its control plane published them, in PEM: whom routers are to
    /// believe. Without them no Route is stamped that needs them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
}

fn any_v4() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}
