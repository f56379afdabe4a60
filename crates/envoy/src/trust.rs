//! Who the client is, and which request headers are believed.
//!
//! | trust | client address | headers of the client |
//! | --- | --- | --- |
//! | nothing | the connection's peer | all that speak of the way of the request are removed |
//! | forwarded headers | the `hops`-th entry of `X-Forwarded-For` from the right | `X-Forwarded-*` and `Forwarded` stay, others are removed |
//! | PROXY protocol | from the PROXY header, which must be there | as for nothing |
//! | unknown | nobody's: backends are told `X-Forwarded-For: unknown` | as for nothing |
//!
//! Envoy appends the peer to whatever `X-Forwarded-For` it finds, so a client could put words into
//! its left end that careless backends believe. Therefore the header is removed before Envoy looks
//! at it, and a backend sees exactly one address.

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf::Any;
use postern_model::Trust;

use crate::{log, pb};

/// Prefixes of headers that only Envoy itself may set: they command its router.
const ENVOYS_OWN: &[&str] = &["x-envoy-"];

/// What proxies in front may say, if they are trusted.
const FORWARDED: &[&str] = &["forwarded"];
const FORWARDED_PREFIXES: &[&str] = &["x-forwarded-"];

/// Other headers in which proxies name the client, or frameworks take another URL. Nothing that
/// Postern trusts writes them, so they come from the client, at any trust.
const OTHERS: &[&str] = &[
    "cf-connecting-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method-override",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// How many entries of `X-Forwarded-For`, from the right, were written by proxies in front.
pub(crate) fn hops(trust: Trust) -> u32 {
    match trust {
        Trust::Nothing | Trust::ProxyProtocol | Trust::Unknown => 0,
        Trust::ForwardedHeaders { hops } => u32::from(hops.max(1)),
    }
}

/// Whether the peer of the connection, or whom it names, is told to backends as the client.
pub(crate) fn peer_is_client(trust: Trust) -> bool {
    match trust {
        Trust::Nothing | Trust::ForwardedHeaders { .. } | Trust::ProxyProtocol => true,
        Trust::Unknown => false,
    }
}

/// Removes what is not believed, before Envoy reads any of it.
pub(crate) fn early_mutation(trust: Trust) -> core::TypedExtensionConfig {
    let (names, prefixes): (&[&str], &[&str]) = match trust {
        Trust::Nothing | Trust::ProxyProtocol | Trust::Unknown => (FORWARDED, FORWARDED_PREFIXES),
        Trust::ForwardedHeaders { .. } => (&[], &[]),
    };
    let mutations = (OTHERS.iter().chain(names))
        .map(|name| rules::header_mutation::Action::Remove((*name).to_owned()))
        .chain(
            ENVOYS_OWN
                .iter()
                .chain(prefixes)
                .map(|prefix| remove_prefix(prefix)),
        )
        .chain((!peer_is_client(trust)).then(client_unknown))
        .map(|action| rules::HeaderMutation {
            action: Some(action),
        })
        .collect();
    pb::extension(
        "envoy.http.early_header_mutation.header_mutation",
        &HeaderMutation { mutations },
    )
}

/// Says that nobody knows the client. Without it a backend takes our pod for one.
fn client_unknown() -> rules::header_mutation::Action {
    use core::header_value_option::HeaderAppendAction;
    rules::header_mutation::Action::Append(core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: "x-forwarded-for".to_owned(),
            value: log::UNKNOWN.to_owned(),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..Default::default()
    })
}

fn remove_prefix(prefix: &str) -> rules::header_mutation::Action {
    rules::header_mutation::Action::RemoveOnMatch(rules::header_mutation::RemoveOnMatch {
        key_matcher: Some(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Prefix(
                prefix.to_owned(),
            )),
            ..Default::default()
        }),
    })
}

/// The listener filter that reads the PROXY header. A connection without one is closed.
pub(crate) fn proxy_protocol(trust: Trust) -> Option<(&'static str, Any)> {
    match trust {
        Trust::ProxyProtocol => Some((
            "envoy.filters.listener.proxy_protocol",
            pb::any(&ProxyProtocol::default()),
        )),
        Trust::Nothing | Trust::ForwardedHeaders { .. } | Trust::Unknown => None,
    }
}
