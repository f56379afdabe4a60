//! What Envoy does when memory or connections run out.

use serde::Serialize;

/// Part of the heap's limit at which free memory is given back.
const SHRINK_AT: f64 = 0.95;
/// Part of the heap's limit at which new requests are answered 503.
const REFUSE_AT: f64 = 0.98;

/// `envoy.config.overload.v3.OverloadManager`.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    refresh_interval: &'static str,
    resource_monitors: Vec<Monitor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<Action>,
}

#[derive(Clone, Debug, Serialize)]
struct Monitor {
    name: &'static str,
    typed_config: MonitorConfig,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "@type")]
enum MonitorConfig {
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"
    )]
    FixedHeap { max_heap_size_bytes: u64 },
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    )]
    Connections {
        max_active_downstream_connections: u64,
    },
}

#[derive(Clone, Debug, Serialize)]
struct Action {
    name: &'static str,
    triggers: [Trigger; 1],
}

#[derive(Clone, Debug, Serialize)]
struct Trigger {
    name: &'static str,
    threshold: Threshold,
}

#[derive(Clone, Debug, Serialize)]
struct Threshold {
    value: f64,
}

const HEAP: &str = "envoy.resource_monitors.fixed_heap";

impl Overload {
    pub(super) fn new(max_heap: Option<u64>, max_connections: u64) -> Self {
        let mut resource_monitors = vec![Monitor {
            name: "envoy.resource_monitors.global_downstream_max_connections",
            typed_config: MonitorConfig::Connections {
                max_active_downstream_connections: max_connections,
            },
        }];
        let mut actions = Vec::new();
        if let Some(max_heap_size_bytes) = max_heap {
            resource_monitors.push(Monitor {
                name: HEAP,
                typed_config: MonitorConfig::FixedHeap {
                    max_heap_size_bytes,
                },
            });
            actions = [
                ("envoy.overload_actions.shrink_heap", SHRINK_AT),
                ("envoy.overload_actions.stop_accepting_requests", REFUSE_AT),
            ]
            .map(|(name, value)| Action {
                name,
                triggers: [Trigger {
                    name: HEAP,
                    threshold: Threshold { value },
                }],
            })
            .into();
        }
        Self {
            refresh_interval: "0.25s",
            resource_monitors,
            actions,
        }
    }
}
