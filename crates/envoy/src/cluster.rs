//! Clusters, and the endpoints of a cluster.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3 as cl;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as ep;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstreams;
use envoy_types::pb::envoy::r#type::v3 as types;
use postern_model::{Cluster, Endpoint, Health, Text, Upstream};

use crate::{check, http, pb};

/// How long a connection to an endpoint may take, in seconds.
const CONNECT: i64 = 5;

/// After how many seconds without a request a connection to an endpoint is closed. Well below
/// Envoy's hour: a connection that the endpoint closes first costs a request, as nothing is retried.
const UPSTREAM_IDLE: i64 = 60;

/// How long a new cluster waits for its endpoints before it serves 503, in seconds. They are always
/// sent with it; this is for Envoy, which may not ask again after a change of the cluster.
const ENDPOINTS_WAIT: i64 = 5;

/// Circuit breakers: far above what one Envoy of a tenant should need, so that they end a flood,
/// not a busy day (Envoy's default of 1,024 does).
const MAX_CONNECTIONS: u32 = 10_000;
const MAX_PENDING: u32 = 10_000;
const MAX_REQUESTS: u32 = 20_000;

/// A cluster whose endpoints come by EDS, under the cluster's own name.
pub(crate) fn cluster(cluster: &Cluster) -> cl::Cluster {
    let Cluster {
        id,
        upstream,
        origin: _,
    } = cluster;
    cl::Cluster {
        name: id.0.to_string(),
        cluster_discovery_type: Some(cl::cluster::ClusterDiscoveryType::Type(
            cl::cluster::DiscoveryType::Eds as i32,
        )),
        eds_cluster_config: Some(cl::cluster::EdsClusterConfig {
            eds_config: Some(pb::ads(ENDPOINTS_WAIT)),
            ..Default::default()
        }),
        connect_timeout: pb::seconds(CONNECT),
        per_connection_buffer_limit_bytes: pb::number(http::BUFFER_LIMIT),
        lb_policy: cl::cluster::LbPolicy::LeastRequest as i32,
        common_lb_config: Some(cl::cluster::CommonLbConfig {
            // Never send requests to endpoints that are known not to serve.
            healthy_panic_threshold: Some(types::Percent { value: 0.0 }),
            ..Default::default()
        }),
        circuit_breakers: Some(cl::CircuitBreakers {
            thresholds: vec![cl::circuit_breakers::Thresholds {
                max_connections: pb::number(MAX_CONNECTIONS),
                max_pending_requests: pb::number(MAX_PENDING),
                max_requests: pb::number(MAX_REQUESTS),
                ..Default::default()
            }],
            ..Default::default()
        }),
        // An endpoint that leaves the list is gone, whatever its health was.
        ignore_health_on_host_removal: true,
        typed_extension_protocol_options: HashMap::from([(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            pb::any(&protocol(*upstream)),
        )]),
        ..Default::default()
    }
}

fn protocol(upstream: Upstream) -> upstreams::HttpProtocolOptions {
    use upstreams::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstreams::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};
    let protocol = match upstream {
        Upstream::Http1 => {
            ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default())
        }
        Upstream::H2c => ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions {
            initial_stream_window_size: pb::number(http::STREAM_WINDOW),
            initial_connection_window_size: pb::number(http::CONNECTION_WINDOW),
            ..Default::default()
        }),
    };
    upstreams::HttpProtocolOptions {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: pb::seconds(UPSTREAM_IDLE),
            ..Default::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(protocol),
            },
        )),
        ..Default::default()
    }
}

/// The endpoints of a cluster, and what is wrong with those that are left out.
///
/// Envoy sends nothing to a draining endpoint. Where no endpoint is ready, the draining ones still
/// serve (`EndpointSlice`: `serving` and `terminating`), so they are given as healthy.
pub(crate) fn endpoints(
    name: &str,
    endpoints: &[Endpoint],
    allow_loopback: bool,
) -> (ep::ClusterLoadAssignment, Vec<Text>) {
    let mut refused = Vec::new();
    let good: Vec<&Endpoint> = endpoints
        .iter()
        .filter(|endpoint| {
            check::endpoint(endpoint.address, endpoint.port, allow_loopback)
                .map_err(|why| refused.push(why))
                .is_ok()
        })
        .collect();
    let ready = good.iter().any(|one| one.health == Health::Ready);
    let lb_endpoints = good
        .iter()
        .map(
            |Endpoint {
                 address,
                 port,
                 health,
             }| ep::LbEndpoint {
                host_identifier: Some(ep::lb_endpoint::HostIdentifier::Endpoint(ep::Endpoint {
                    address: Some(pb::address(*address, *port)),
                    ..Default::default()
                })),
                health_status: match health {
                    Health::Draining if ready => core::HealthStatus::Draining,
                    Health::Draining | Health::Ready => core::HealthStatus::Healthy,
                } as i32,
                ..Default::default()
            },
        )
        .collect();
    let assignment = ep::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![ep::LocalityLbEndpoints {
            lb_endpoints,
            ..Default::default()
        }],
        ..Default::default()
    };
    (assignment, refused)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn statuses(health: &[Health]) -> Vec<i32> {
        let endpoints: Vec<Endpoint> = (1..)
            .zip(health)
            .map(|(port, health)| Endpoint {
                address: IpAddr::from([10, 0, 0, 1]),
                port,
                health: *health,
            })
            .collect();
        let (assignment, refused) = super::endpoints("a", &endpoints, false);
        assert_eq!(refused, []);
        let locality = &assignment.endpoints[0];
        locality
            .lb_endpoints
            .iter()
            .map(|one| one.health_status)
            .collect()
    }

    #[test]
    fn draining_endpoints_serve_only_where_none_is_ready() {
        use self::core::HealthStatus::{Draining, Healthy};
        assert_eq!(
            statuses(&[Health::Ready, Health::Draining]),
            [Healthy as i32, Draining as i32]
        );
        assert_eq!(
            statuses(&[Health::Draining, Health::Draining]),
            [Healthy as i32; 2]
        );
        assert_eq!(statuses(&[]), [0; 0]);
    }

    #[test]
    fn a_refused_endpoint_leaves_the_others() {
        let endpoint = |address: &str| Endpoint {
            address: address.parse().unwrap(),
            port: 80,
            health: Health::Ready,
        };
        let all = [endpoint("10.0.0.1"), endpoint("169.254.169.254")];
        let (assignment, refused) = endpoints("a", &all, false);
        assert_eq!(assignment.endpoints[0].lb_endpoints.len(), 1);
        assert_eq!(refused.len(), 1);
        assert!(refused[0].contains("169.254.169.254"), "{refused:?}");
    }
}
