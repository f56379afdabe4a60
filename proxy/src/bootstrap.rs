//! Envoy's bootstrap as typed values, written as the JSON form of
//! `envoy.config.bootstrap.v3.Bootstrap`.
//!
//! Only what is used is modelled. Nothing here comes from a tenant: routes, listeners and
//! certificates of listeners arrive later, by xDS.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::identity::{Authority, Host, Identity};

mod node;
mod overload;
mod stats;
#[cfg(test)]
mod tests;
mod tls;

pub use node::{Admin, Node, Runtime};
pub use overload::Overload;
pub use stats::{DeferredStats, StatsConfig, StringMatcher};
pub use tls::{SecretFiles, TlsContext};

/// Name of the static cluster that leads to the control plane.
pub const XDS_CLUSTER: &str = "xds";

/// Silence on the xDS connection after which a ping is sent: a half-open connection is noticed
/// after this and [`KEEPALIVE_TIMEOUT`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a ping may stay unanswered.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait between two tries to reach the control plane. Envoy's own default is 30 s, which
/// is how late a restarted control plane would be noticed.
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// First wait between two tries to reach the control plane.
const RECONNECT_BASE: Duration = Duration::from_millis(250);
/// How long a TCP and TLS connection to the control plane may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a bootstrap is made from.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// Who this Envoy is.
    pub identity: &'a Identity,
    /// Envoy's `node.id`: informational, it picks nothing.
    pub node_id: &'a str,
    /// Where the control plane listens.
    pub xds: &'a Authority,
    /// Name in the TLS handshake with the control plane; by default the host name in `xds`.
    pub xds_server_name: Option<&'a str>,
    /// Path of the admin socket.
    pub admin_socket: &'a Path,
    /// Paths of the SDS files that [`SecretFiles`] describes.
    pub secrets: SecretPaths<'a>,
    /// Heap, in bytes, at which requests are refused; unlimited without.
    pub max_heap: Option<u64>,
    /// Most connections from clients at a time, all listeners together.
    pub max_connections: u64,
}

/// Where the two SDS files lie.
#[derive(Clone, Copy, Debug)]
pub struct SecretPaths<'a> {
    /// File with our certificate.
    pub certificate: &'a Path,
    /// File with what the server must show.
    pub validation: &'a Path,
}

/// `envoy.config.bootstrap.v3.Bootstrap`.
#[derive(Clone, Debug, Serialize)]
pub struct Bootstrap {
    /// Who Envoy says it is; believed by nobody.
    pub node: Node,
    /// The admin interface.
    pub admin: Admin,
    /// Where listeners and clusters come from.
    pub dynamic_resources: DynamicResources,
    /// The way to the control plane.
    pub static_resources: StaticResources,
    /// What happens when memory or connections run out.
    pub overload_manager: Overload,
    /// Runtime values.
    pub layered_runtime: Runtime,
    /// Which statistics are made at all.
    pub stats_config: StatsConfig,
    /// Gauges and histograms are brought up to date when asked for, not every five seconds.
    pub stats_flush_on_admin: bool,
    /// Statistics of clusters without traffic.
    pub deferred_stat_options: DeferredStats,
}

/// `Bootstrap.DynamicResources`.
#[derive(Clone, Debug, Serialize)]
pub struct DynamicResources {
    /// The one stream that carries everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads_config: Option<AdsConfig>,
    /// Where listeners come from.
    pub lds_config: ConfigSource,
    /// Where clusters come from.
    pub cds_config: ConfigSource,
}

/// `envoy.config.core.v3.ConfigSource`.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigSource {
    /// ADS, or a file.
    #[serde(flatten)]
    pub specifier: ConfigSourceSpecifier,
    /// Always V3.
    pub resource_api_version: ApiVersion,
    /// How long Envoy waits before it starts without. Zero is for ever: an Envoy without an
    /// answer never opens a listener and never says that it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_fetch_timeout: Option<Wait>,
}

/// `ConfigSource.config_source_specifier`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigSourceSpecifier {
    /// `AggregatedConfigSource`.
    Ads(Empty),
    /// `PathConfigSource`.
    PathConfigSource(PathSource),
}

/// `envoy.config.core.v3.PathConfigSource`: a file that is watched for moves onto it.
#[derive(Clone, Debug, Serialize)]
pub struct PathSource {
    /// The file.
    pub path: String,
}

/// A message without fields.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Empty {}

/// `ApiVersion`.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum ApiVersion {
    /// The only one.
    V3,
}

/// `google.protobuf.Duration` in its JSON form.
#[derive(Clone, Copy, Debug)]
pub struct Wait(pub Duration);

impl Serialize for Wait {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}s", self.0.as_secs_f64()))
    }
}

/// `envoy.config.core.v3.ApiConfigSource`.
#[derive(Clone, Debug, Serialize)]
pub struct AdsConfig {
    api_type: &'static str,
    transport_api_version: ApiVersion,
    set_node_on_first_message_only: bool,
    grpc_services: [GrpcService; 1],
}

#[derive(Clone, Debug, Serialize)]
struct GrpcService {
    envoy_grpc: EnvoyGrpc,
}

#[derive(Clone, Debug, Serialize)]
struct EnvoyGrpc {
    cluster_name: &'static str,
    retry_policy: RetryPolicy,
}

#[derive(Clone, Debug, Serialize)]
struct RetryPolicy {
    retry_back_off: BackOff,
}

#[derive(Clone, Debug, Serialize)]
struct BackOff {
    base_interval: Wait,
    max_interval: Wait,
}

/// `Bootstrap.StaticResources`.
#[derive(Clone, Debug, Serialize)]
pub struct StaticResources {
    clusters: [Cluster; 1],
}

#[derive(Clone, Debug, Serialize)]
struct Cluster {
    name: &'static str,
    #[serde(rename = "type")]
    discovery: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_lookup_family: Option<&'static str>,
    connect_timeout: Wait,
    load_assignment: LoadAssignment,
    typed_extension_protocol_options: ProtocolOptions,
    transport_socket: TlsContext,
}

#[derive(Clone, Debug, Serialize)]
struct LoadAssignment {
    cluster_name: &'static str,
    endpoints: [Locality; 1],
}

#[derive(Clone, Debug, Serialize)]
struct Locality {
    lb_endpoints: [LbEndpoint; 1],
}

#[derive(Clone, Debug, Serialize)]
struct LbEndpoint {
    endpoint: Endpoint,
}

#[derive(Clone, Debug, Serialize)]
struct Endpoint {
    address: Address,
}

#[derive(Clone, Debug, Serialize)]
struct Address {
    socket_address: SocketAddress,
}

#[derive(Clone, Debug, Serialize)]
struct SocketAddress {
    address: String,
    port_value: u16,
}

#[derive(Clone, Debug, Serialize)]
struct ProtocolOptions {
    #[serde(rename = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")]
    http: HttpProtocolOptions,
}

#[derive(Clone, Debug, Serialize)]
struct HttpProtocolOptions {
    #[serde(rename = "@type")]
    type_url: &'static str,
    explicit_http_config: ExplicitHttp,
}

#[derive(Clone, Debug, Serialize)]
struct ExplicitHttp {
    http2_protocol_options: Http2,
}

#[derive(Clone, Debug, Serialize)]
struct Http2 {
    connection_keepalive: Keepalive,
}

#[derive(Clone, Debug, Serialize)]
struct Keepalive {
    interval: Wait,
    timeout: Wait,
}

impl Bootstrap {
    /// The bootstrap of an Envoy that takes everything from its control plane.
    pub fn new(inputs: &Inputs<'_>) -> Self {
        Self {
            node: Node::new(inputs.node_id, inputs.identity),
            admin: Admin::new(inputs.admin_socket),
            dynamic_resources: DynamicResources {
                ads_config: Some(AdsConfig::new()),
                lds_config: ConfigSource::ads(),
                cds_config: ConfigSource::ads(),
            },
            static_resources: StaticResources {
                clusters: [xds_cluster(inputs)],
            },
            overload_manager: Overload::new(inputs.max_heap, inputs.max_connections),
            layered_runtime: Runtime::new(),
            stats_config: StatsConfig::new(),
            stats_flush_on_admin: true,
            deferred_stat_options: DeferredStats::new(),
        }
    }

    /// The JSON that Envoy reads.
    ///
    /// # Errors
    ///
    /// None that a value of this type can cause.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }
}

impl ConfigSource {
    /// From the control plane's stream; waits for ever.
    pub fn ads() -> Self {
        Self {
            specifier: ConfigSourceSpecifier::Ads(Empty {}),
            resource_api_version: ApiVersion::V3,
            initial_fetch_timeout: Some(Wait(Duration::ZERO)),
        }
    }

    /// From a file of a `DiscoveryResponse`; waits for ever. For Envoys without a control plane.
    pub fn file(path: &Path) -> Self {
        Self {
            specifier: ConfigSourceSpecifier::PathConfigSource(PathSource {
                path: path.to_string_lossy().into_owned(),
            }),
            resource_api_version: ApiVersion::V3,
            initial_fetch_timeout: Some(Wait(Duration::ZERO)),
        }
    }
}

impl AdsConfig {
    fn new() -> Self {
        Self {
            api_type: "DELTA_GRPC",
            transport_api_version: ApiVersion::V3,
            set_node_on_first_message_only: true,
            grpc_services: [GrpcService {
                envoy_grpc: EnvoyGrpc {
                    cluster_name: XDS_CLUSTER,
                    retry_policy: RetryPolicy {
                        retry_back_off: BackOff {
                            base_interval: Wait(RECONNECT_BASE),
                            max_interval: Wait(RECONNECT_MAX),
                        },
                    },
                },
            }],
        }
    }
}

fn xds_cluster(inputs: &Inputs<'_>) -> Cluster {
    let (discovery, dns_lookup_family, address, host_name) = match &inputs.xds.host {
        Host::Ip(address) => ("STATIC", None, address.to_string(), None),
        // Both families, as the cluster may have either; the first that connects is used.
        Host::Name(name) => ("STRICT_DNS", Some("ALL"), name.clone(), Some(name.as_str())),
    };
    Cluster {
        name: XDS_CLUSTER,
        discovery,
        dns_lookup_family,
        connect_timeout: Wait(CONNECT_TIMEOUT),
        load_assignment: LoadAssignment {
            cluster_name: XDS_CLUSTER,
            endpoints: [Locality {
                lb_endpoints: [LbEndpoint {
                    endpoint: Endpoint {
                        address: Address {
                            socket_address: SocketAddress {
                                address,
                                port_value: inputs.xds.port,
                            },
                        },
                    },
                }],
            }],
        },
        typed_extension_protocol_options: ProtocolOptions {
            http: HttpProtocolOptions {
                type_url: "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config: ExplicitHttp {
                    http2_protocol_options: Http2 {
                        connection_keepalive: Keepalive {
                            interval: Wait(KEEPALIVE_INTERVAL),
                            timeout: Wait(KEEPALIVE_TIMEOUT),
                        },
                    },
                },
            },
        },
        transport_socket: TlsContext::new(inputs.secrets, inputs.xds_server_name.or(host_name)),
    }
}
