//! The HTTP connection manager: limits and paths, hardened for clients that mean harm.
//!
//! Source: Envoy's "Configuring Envoy as an edge proxy", and where this departs from it, why.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use postern_model::{Listener, TableId};

use crate::{filters, log, pb, trust};

/// Bytes that Envoy holds a connection and direction before it stops reading.
pub(crate) const BUFFER_LIMIT: u32 = 32 * 1024;

/// HTTP/2 flow-control windows, in bytes: small, as they are what a slow reader may make us hold.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// HTTP/2 streams a connection may have at once.
const MAX_STREAMS: u32 = 100;

/// Kibibytes and number of request headers. Envoy's defaults are 60 and 100.
const MAX_HEADERS_KB: u32 = 32;
const MAX_HEADERS: u32 = 100;

/// Seconds. A request's headers must be complete by then.
const HEADERS_TIMEOUT: i64 = 10;

/// Seconds without a byte on a stream, in either direction, after which it ends.
const STREAM_IDLE: i64 = 300;

/// Seconds for a whole request with its body. Envoy's guide says 300, which cuts long uploads; an
/// hour still ends what drips. Does not limit answers.
const REQUEST_TIMEOUT: i64 = 3600;

/// Seconds after which a connection without a request is closed.
const CONNECTION_IDLE: i64 = 180;

/// The longest prefix of a listener's stats.
const MAX_STAT_PREFIX: usize = 60;

/// The HTTP connection manager of a listener, with the routes of one table.
pub(crate) fn manager(listener: &Listener, table: &TableId) -> hcm::HttpConnectionManager {
    use core::http_protocol_options::HeadersWithUnderscoresAction;
    use hcm::http_connection_manager as options;
    hcm::HttpConnectionManager {
        codec_type: options::CodecType::Auto as i32,
        stat_prefix: stat_prefix(&listener.name),
        route_specifier: Some(options::RouteSpecifier::Rds(hcm::Rds {
            // 0: a listener never opens without its routes. A fresh Envoy would answer 404 for
            // routes that exist.
            config_source: Some(pb::ads(0)),
            route_config_name: table.0.to_string(),
        })),
        http_filters: filters::chain(listener),

        // Who the client is.
        use_remote_address: pb::boolean(trust::peer_is_client(listener.trust)),
        skip_xff_append: !trust::peer_is_client(listener.trust),
        xff_num_trusted_hops: trust::hops(listener.trust),
        early_header_mutation_extensions: vec![trust::early_mutation(listener.trust)],
        // No address makes a client "internal", whose `x-envoy-*` headers would count.
        internal_address_config: Some(options::InternalAddressConfig::default()),
        forward_client_cert_details: options::ForwardClientCertDetails::Sanitize as i32,
        generate_request_id: pb::boolean(true),
        preserve_external_request_id: false,

        // One canonical path for everything that looks at it. An escaped slash is refused: whether
        // `/a%2Fb` is one element or two, proxies and backends never agree.
        normalize_path: pb::boolean(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: options::PathWithEscapedSlashesAction::RejectRequest
            as i32,

        // Limits.
        max_request_headers_kb: pb::number(MAX_HEADERS_KB),
        request_headers_timeout: pb::seconds(HEADERS_TIMEOUT),
        request_timeout: pb::seconds(REQUEST_TIMEOUT),
        stream_idle_timeout: pb::seconds(STREAM_IDLE),
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: pb::seconds(CONNECTION_IDLE),
            max_headers_count: pb::number(MAX_HEADERS),
            // Many servers read `x_user` and `x-user` as one.
            headers_with_underscores_action: HeadersWithUnderscoresAction::RejectRequest as i32,
            ..Default::default()
        }),
        // HTTP/1.0, and both Content-Length and chunked framing, are refused by default; so is
        // any request that is not valid, with its connection. Said here, as all hangs on it.
        http_protocol_options: Some(core::Http1ProtocolOptions {
            accept_http_10: false,
            allow_chunked_length: false,
            override_stream_error_on_invalid_http_message: pb::boolean(false),
            ..Default::default()
        }),
        http2_protocol_options: Some(core::Http2ProtocolOptions {
            max_concurrent_streams: pb::number(MAX_STREAMS),
            initial_stream_window_size: pb::number(STREAM_WINDOW),
            initial_connection_window_size: pb::number(CONNECTION_WINDOW),
            allow_connect: false,
            override_stream_error_on_invalid_http_message: pb::boolean(false),
            ..Default::default()
        }),

        // Whatever the backend says stays; Postern does not name itself.
        server_header_transformation: options::ServerHeaderTransformation::PassThrough as i32,

        access_log: log::access(listener),
        ..Default::default()
    }
}

/// A name for stats: short, without dots, which would be read as levels.
fn stat_prefix(name: &str) -> String {
    name.chars()
        .take(MAX_STAT_PREFIX)
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '/' => character,
            _ => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_prefixes_are_short_and_plain() {
        assert_eq!(stat_prefix("team-a/web/http"), "team-a/web/http");
        assert_eq!(stat_prefix("a.b;c=\u{e9}\n"), "a_b_c___");
        assert_eq!(stat_prefix(&"x".repeat(500)).len(), MAX_STAT_PREFIX);
    }
}
