//! Which statistics Envoy makes at all. Each costs memory for every cluster, listener and worker
//! whether anyone reads it or not, so those not listed are never made.

use serde::Serialize;

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum StringMatcher {
    /// The whole text.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// The whole text, by an RE2 expression.
    SafeRegex(Regex),
}

/// `envoy.type.matcher.v3.RegexMatcher`.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Regex {
    regex: String,
}

/// `envoy.config.metrics.v3.StatsConfig`.
#[derive(Clone, Debug, Serialize)]
pub struct StatsConfig {
    stats_matcher: StatsMatcher,
}

#[derive(Clone, Debug, Serialize)]
struct StatsMatcher {
    inclusion_list: List,
}

#[derive(Clone, Debug, Serialize)]
struct List {
    patterns: Vec<StringMatcher>,
}

/// `Bootstrap.DeferredStatOptions`.
#[derive(Clone, Debug, Serialize)]
pub struct DeferredStats {
    enable_deferred_creation_stats: bool,
}

impl DeferredStats {
    pub(super) fn new() -> Self {
        Self {
            enable_deferred_creation_stats: true,
        }
    }
}

/// What begins so is few, and of the process as a whole.
const PREFIXES: &[&str] = &[
    "cluster_manager.",
    "control_plane.",
    "listener_manager.",
    "overload.",
    "runtime.",
    "server.",
];

/// What ends so says whether Envoy took what it was sent: every subscription, RDS and SDS too.
/// Readiness and each test's "nothing was refused" stand on these.
const SUFFIXES: &[&str] = &[
    ".config_reload",
    ".connected_state",
    ".init_fetch_timeout",
    ".update_attempt",
    ".update_failure",
    ".update_rejected",
    ".update_success",
];

/// What happens to requests and connections.
const EXPRESSIONS: &[&str] = &[
    r"http\..*\.downstream_rq_(active|total|completed|[1-5]xx|time|timeout|idle_timeout|header_timeout|overload_close|too_large|rx_reset|tx_reset|too_many_premature_resets|failed_path_normalization)",
    r"http\..*\.downstream_cx_(active|total|ssl_active|protocol_error|drain_close|idle_timeout|rx_bytes_total|tx_bytes_total)",
    r"http\..*\.(no_route|no_cluster|rq_direct_response|rq_overload_local_reply)",
    r"cluster\..*\.upstream_rq_(active|total|completed|[1-5]xx|time|timeout|retry|retry_success|retry_overflow|pending_active|pending_overflow|pending_failure_eject|rx_reset|tx_reset|maintenance_mode)",
    r"cluster\..*\.upstream_cx_(active|total|connect_fail|connect_timeout|overflow|destroy_remote_with_active_rq)",
    r"cluster\..*\.(membership_healthy|membership_total|upstream_cx_none_healthy|outlier_detection\.ejections_active)",
    r"listener\..*\.downstream_(cx_active|cx_total|cx_overflow|cx_overload_reject|global_cx_overflow|pre_cx_timeout)",
    r"listener\..*\.no_filter_chain_match",
    r"listener\..*\.ssl\.(handshake|connection_error|fail_verify_error|fail_verify_no_cert|fail_verify_san|no_certificate)",
    r"(listener|cluster)\..*\.(ssl_context_update_by_sds|downstream_context_secrets_not_ready|upstream_context_secrets_not_ready)",
];

impl StatsConfig {
    pub(super) fn new() -> Self {
        let prefixes = PREFIXES
            .iter()
            .map(|p| StringMatcher::Prefix((*p).to_owned()));
        let suffixes = SUFFIXES
            .iter()
            .map(|s| StringMatcher::Suffix((*s).to_owned()));
        let expressions = EXPRESSIONS.iter().map(|e| {
            StringMatcher::SafeRegex(Regex {
                regex: (*e).to_owned(),
            })
        });
        Self {
            stats_matcher: StatsMatcher {
                inclusion_list: List {
                    patterns: prefixes.chain(suffixes).chain(expressions).collect(),
                },
            },
        }
    }
}
