//! The access log: one JSON line a request, on Envoy's standard output.
//!
//! It is the tenant's own pod that writes it. Queries are left out: they hold tokens and names more
//! often than they help. Text of clients is escaped by Envoy's JSON formatter, so that no request
//! can write a line of its own.
//!
//! Source: Envoy, "Access logging", command operators.

use envoy_types::pb::envoy::config::accesslog::v3 as al;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
use envoy_types::pb::google::protobuf::Any;
use postern_model::{Listener, Trust};
use prost::Name;

use crate::pb;

/// What is said where nobody can know the client (RFC 7239, section 6.2).
pub(crate) const UNKNOWN: &str = "unknown";

/// The fields of a line. Absent values are `null`.
const FIELDS: &[(&str, &str)] = &[
    ("time", "%START_TIME%"),
    ("method", "%REQUEST_HEADER(:METHOD)%"),
    ("scheme", "%REQUEST_HEADER(:SCHEME)%"),
    ("host", "%REQUEST_HEADER(:AUTHORITY)%"),
    ("path", "%PATH(NQ:ORIG_OR_PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("status", "%RESPONSE_CODE%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("backend", "%UPSTREAM_CLUSTER%"),
    ("upstream", "%UPSTREAM_HOST%"),
    ("upstreamAttempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("durationMs", "%DURATION%"),
    ("bytesReceived", "%BYTES_RECEIVED%"),
    ("bytesSent", "%BYTES_SENT%"),
    ("userAgent", "%REQUEST_HEADER(USER-AGENT):256%"),
    ("requestId", "%REQUEST_HEADER(X-REQUEST-ID)%"),
    ("serverName", "%REQUESTED_SERVER_NAME%"),
];

/// The access log of a listener.
pub(crate) fn access(listener: &Listener) -> Vec<al::AccessLog> {
    let client = match listener.trust {
        Trust::Unknown => UNKNOWN,
        Trust::Nothing | Trust::ForwardedHeaders { .. } | Trust::ProxyProtocol => {
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
        }
    };
    // Whom the connection came from, which is the client only where nobody stands in front.
    let peer = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%";
    let name = listener.name.replace('%', "%%");
    let own = [
        ("listener", name.as_str()),
        ("client", client),
        ("peer", peer),
    ];
    let fields = FIELDS.iter().copied().chain(own);
    vec![al::AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        config_type: Some(al::access_log::ConfigType::TypedConfig(Any {
            type_url: StdoutAccessLog::type_url(),
            value: stdout(fields),
        })),
        ..Default::default()
    }]
}

/// A `StdoutAccessLog` with these fields of a JSON format. Written field by field: the generated
/// `Struct` has its fields in an order that changes, and the same listener would be news each time.
fn stdout<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    const KEY: u32 = 1;
    const VALUE: u32 = 2;
    const LOG_FORMAT: u32 = 1;
    const JSON_FORMAT: u32 = 2;
    const STRUCT_FIELDS: u32 = 1;
    const STRING_VALUE: u32 = 3;
    let within = |tag: u32, body: &[u8], into: &mut Vec<u8>| {
        pb::field_start(tag, body.len(), into);
        into.extend_from_slice(body);
    };
    let mut format = Vec::new();
    for (name, text) in fields {
        let (mut value, mut entry) = (Vec::new(), Vec::new());
        pb::string_field(STRING_VALUE, text, &mut value);
        pb::string_field(KEY, name, &mut entry);
        within(VALUE, &value, &mut entry);
        within(STRUCT_FIELDS, &entry, &mut format);
    }
    let (mut json, mut log) = (Vec::new(), Vec::new());
    within(JSON_FORMAT, &format, &mut json);
    within(LOG_FORMAT, &json, &mut log);
    log
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
    use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat;
    use envoy_types::pb::google::protobuf::{Value, value};
    use prost::Message;

    use super::*;

    #[test]
    fn what_is_written_by_hand_reads_as_the_message() {
        let read = StdoutAccessLog::decode(&*stdout(FIELDS.iter().copied())).expect("a message");
        let Some(AccessLogFormat::LogFormat(format)) = read.access_log_format else {
            panic!("a log format");
        };
        let Some(Format::JsonFormat(json)) = format.format else {
            panic!("a JSON format");
        };
        assert_eq!(json.fields.len(), FIELDS.len());
        for (name, text) in FIELDS {
            let expected = Value {
                kind: Some(value::Kind::StringValue((*text).to_owned())),
            };
            assert_eq!(json.fields[*name], expected, "{name}");
        }
    }
}
