//! Small helpers around the generated protobuf types: wrappers, packing, and writing a field by
//! hand where an encoded part is used again.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration, UInt32Value};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost::{Message, Name};

/// A message with its type, as extension points want it.
pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}

/// An extension: its name is for people, the type of its configuration picks it.
pub(crate) fn extension<M: Message + Name>(name: &str, config: &M) -> core::TypedExtensionConfig {
    core::TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(any(config)),
    }
}

/// A duration of whole seconds; 0 is written too, and means "disabled" to Envoy.
pub(crate) const fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// A number that is written even where it is 0.
pub(crate) const fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A truth value that is written even where it is `false`.
pub(crate) const fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// "By the aggregated stream that this configuration came by." `timeout` is how long Envoy waits
/// for the first answer before it goes on without; 0 is for ever.
///
/// Source: `envoy.config.core.v3.ConfigSource`.
pub(crate) fn ads(timeout: i64) -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        initial_fetch_timeout: seconds(timeout),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource {},
        )),
        ..Default::default()
    }
}

/// A TCP address.
pub(crate) fn address(ip: std::net::IpAddr, port: u16) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            protocol: core::socket_address::Protocol::Tcp as i32,
            address: ip.to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(
                port,
            ))),
            ..Default::default()
        })),
    }
}

/// Writes the start of a length-delimited field (a message or a string): tag and length.
pub(crate) fn field_start(tag: u32, length: usize, into: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, into);
    encode_varint(length as u64, into);
}

/// Writes a string field.
pub(crate) fn string_field(tag: u32, text: &str, into: &mut Vec<u8>) {
    field_start(tag, text.len(), into);
    into.extend_from_slice(text.as_bytes());
}

/// Writes a message field.
pub(crate) fn message_field<M: Message>(tag: u32, message: &M, into: &mut Vec<u8>) {
    prost::encoding::message::encode(tag, message, into);
}
