//! Node, admin interface and runtime values.

use std::path::Path;

use serde::Serialize;

use super::StringMatcher;
use crate::identity::Identity;

/// `envoy.config.core.v3.Node`. For logs only: the control plane goes by the certificate.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    id: String,
    cluster: String,
}

impl Node {
    pub(super) fn new(id: &str, identity: &Identity) -> Self {
        Self {
            id: id.to_owned(),
            cluster: identity.label(),
        }
    }
}

/// `envoy.config.bootstrap.v3.Admin`: a Unix socket in a directory of mode 0700, never a port.
#[derive(Clone, Debug, Serialize)]
pub struct Admin {
    address: AdminAddress,
    /// Draining and readiness must work when clients have taken every connection.
    ignore_global_conn_limit: bool,
    allow_paths: Vec<StringMatcher>,
}

#[derive(Clone, Debug, Serialize)]
struct AdminAddress {
    pipe: Pipe,
}

#[derive(Clone, Debug, Serialize)]
struct Pipe {
    path: String,
    mode: u32,
}

impl Admin {
    /// What is not here is answered 403, to whoever holds the socket too: not `/quitquitquit`,
    /// `/runtime_modify`, `/logging`, `/cpuprofiler`, `/heapprofiler`, `/reset_counters`.
    pub(super) fn new(socket: &Path) -> Self {
        let exact = |path: &str| StringMatcher::Exact(path.to_owned());
        let prefix = |path: &str| StringMatcher::Prefix(path.to_owned());
        Self {
            address: AdminAddress {
                pipe: Pipe {
                    path: socket.to_string_lossy().into_owned(),
                    mode: 0o600,
                },
            },
            ignore_global_conn_limit: true,
            allow_paths: vec![
                exact("/ready"),
                exact("/server_info"),
                exact("/stats"),
                prefix("/stats?"),
                exact("/stats/prometheus"),
                prefix("/stats/prometheus?"),
                // For people who look for a fault.
                exact("/certs"),
                exact("/clusters"),
                prefix("/clusters?"),
                exact("/config_dump"),
                prefix("/config_dump?"),
                exact("/init_dump"),
                exact("/listeners"),
                prefix("/listeners?"),
                exact("/memory"),
                exact("/runtime"),
                // For the drain.
                exact("/healthcheck/fail"),
                exact("/drain_listeners?graceful&skip_exit"),
            ],
        }
    }
}

/// `LayeredRuntime` with one static layer: nothing changes it later, the admin interface neither.
#[derive(Clone, Debug, Serialize)]
pub struct Runtime {
    layers: [Layer; 1],
}

#[derive(Clone, Debug, Serialize)]
struct Layer {
    name: &'static str,
    static_layer: Values,
}

/// A tree, since Envoy joins the keys of nested structs by dots.
///
/// No `envoy.restart_features.use_eds_cache_for_ads`: since 1.40 there is no such guard any more, the
/// cache is always used, and naming it is an error in Envoy's log.
#[derive(Clone, Debug, Serialize)]
struct Values {
    re2: Re2,
}

#[derive(Clone, Debug, Serialize)]
struct Re2 {
    max_program_size: ProgramSize,
}

/// RE2's own measure of a compiled expression, a bound on the memory and time that a tenant's
/// regular expressions can take. A larger one makes Envoy refuse the whole table, so translation
/// must hold expressions to less.
#[derive(Clone, Debug, Serialize)]
struct ProgramSize {
    error_level: u32,
}

impl Runtime {
    pub(super) fn new() -> Self {
        Self {
            layers: [Layer {
                name: "postern",
                static_layer: Values {
                    re2: Re2 {
                        max_program_size: ProgramSize { error_level: 200 },
                    },
                },
            }],
        }
    }
}
