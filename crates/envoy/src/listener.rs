//! Listeners: the port, the TLS chains, and what of them cannot be sent.

use std::collections::BTreeSet;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as ls;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::google::protobuf::Any;
use postern_model::{Host, Listener, ListenerKind, Origin, SecretId, TableId, Text, TlsChain};

use crate::{check, http, pb, trust};

/// Seconds for what comes before HTTP: the PROXY header and the TLS client hello. Then for the
/// handshake. A connection that takes longer is closed.
const PREFACE_TIMEOUT: i64 = 10;
const HANDSHAKE_TIMEOUT: i64 = 10;

/// Seconds that a listener waits for a certificate; 0 is for ever. The certificate is always there
/// (see [`plan`]), and a refusal by Envoy ends the wait: then the other chains serve, and this one
/// closes its connections.
const CERTIFICATE_WAIT: i64 = 0;

/// Which tables and certificates an Envoy will have.
pub(crate) trait Known {
    /// Whether the table is sent.
    fn table(&self, id: &TableId) -> bool;
    /// Whether the certificate is sent.
    fn secret(&self, id: &SecretId) -> bool;
}

/// What of a listener can be sent.
#[derive(PartialEq)]
pub(crate) struct Plan {
    /// Indices of the TLS chains; `[0]` stands for the plain table. None: the listener is left out.
    pub(crate) chains: Vec<usize>,
    /// What cannot be sent, and why.
    pub(crate) refused: Vec<(Origin, Text)>,
}

/// Looks at what a listener refers to. One chain that cannot be sent leaves the others: Envoy
/// takes listeners whole, and one that refers to something that never comes waits for ever.
pub(crate) fn plan(listener: &Listener, known: &impl Known) -> Plan {
    let mut plan = Plan {
        chains: Vec::new(),
        refused: Vec::new(),
    };
    let whole = check::name("listener", &listener.name).and_then(|()| match listener.port {
        0 => Err("the listener's port is 0".into()),
        _ => Ok(()),
    });
    if let Err(why) = whole {
        plan.refused.push((listener.origin.clone(), why));
        return plan;
    }
    match &listener.kind {
        ListenerKind::Http { table } => match table_known(table, known) {
            Ok(()) => plan.chains.push(0),
            Err(why) => plan.refused.push((listener.origin.clone(), why)),
        },
        ListenerKind::Https { chains } => {
            let mut names = BTreeSet::new();
            for (index, chain) in chains.iter().enumerate() {
                match chain_good(chain, known, &mut names) {
                    Ok(()) => plan.chains.push(index),
                    Err(why) => plan.refused.push((chain.origin.clone(), why)),
                }
            }
        }
    }
    plan
}

fn chain_good<'a>(
    chain: &'a TlsChain,
    known: &impl Known,
    names: &mut BTreeSet<&'a Host>,
) -> Result<(), Text> {
    let TlsChain {
        server_name,
        certificates,
        table,
        origin: _,
    } = chain;
    check::host(server_name)?;
    table_known(table, known)?;
    if certificates.is_empty() {
        return Err("it has no certificate".into());
    }
    if let Some(missing) = certificates.iter().find(|id| !known.secret(id)) {
        return Err(format!("its certificate {:?} is not there", missing.0).into());
    }
    if !names.insert(server_name) {
        return Err("another chain of this listener has this server name".into());
    }
    Ok(())
}

fn table_known(table: &TableId, known: &impl Known) -> Result<(), Text> {
    if known.table(table) {
        return Ok(());
    }
    Err(format!("its route table {:?} is not there", table.0).into())
}

/// A listener with the chains of `plan`, which must have some.
pub(crate) fn listener(listener: &Listener, plan: &Plan, bind: IpAddr) -> ls::Listener {
    let filter_chains = match &listener.kind {
        ListenerKind::Http { table } => vec![ls::FilterChain {
            filters: vec![manager(listener, table)],
            ..Default::default()
        }],
        ListenerKind::Https { chains } => (plan.chains.iter())
            .filter_map(|index| chains.get(*index))
            .map(|chain| tls_chain(listener, chain))
            .collect(),
    };
    ls::Listener {
        name: listener.name.to_string(),
        address: Some(pb::address(bind, listener.port)),
        filter_chains,
        listener_filters: listener_filters(listener),
        listener_filters_timeout: pb::seconds(PREFACE_TIMEOUT),
        continue_on_listener_filters_timeout: false,
        per_connection_buffer_limit_bytes: pb::number(http::BUFFER_LIMIT),
        // Workers accept on sockets of their own; the kernel spreads connections.
        enable_reuse_port: pb::boolean(true),
        ..Default::default()
    }
}

/// What looks at a connection before its chain is picked, in this order: the PROXY header stands
/// before the client hello.
fn listener_filters(listener: &Listener) -> Vec<ls::ListenerFilter> {
    let inspector = match listener.kind {
        ListenerKind::Http { .. } => None,
        ListenerKind::Https { .. } => Some((
            "envoy.filters.listener.tls_inspector",
            pb::any(&TlsInspector::default()),
        )),
    };
    (trust::proxy_protocol(listener.trust).into_iter())
        .chain(inspector)
        .map(|(name, config)| ls::ListenerFilter {
            name: name.to_owned(),
            config_type: Some(ls::listener_filter::ConfigType::TypedConfig(config)),
            ..Default::default()
        })
        .collect()
}

fn manager(listener: &Listener, table: &TableId) -> ls::Filter {
    ls::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(ls::filter::ConfigType::TypedConfig(pb::any(
            &http::manager(listener, table),
        ))),
    }
}

/// The chain of one server name. A connection that no chain takes is closed by Envoy.
fn tls_chain(listener: &Listener, chain: &TlsChain) -> ls::FilterChain {
    let TlsChain {
        server_name,
        certificates,
        table,
        origin: _,
    } = chain;
    let server_names = match server_name {
        Host::Any => Vec::new(),
        Host::Exact(_) | Host::Wildcard(_) => vec![server_name.to_string()],
    };
    ls::FilterChain {
        // Envoy compares chains by name and content: those that stay keep their connections.
        name: server_name.to_string(),
        filter_chain_match: Some(ls::FilterChainMatch {
            server_names,
            ..Default::default()
        }),
        filters: vec![manager(listener, table)],
        transport_socket: Some(core::TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(core::transport_socket::ConfigType::TypedConfig(terminate(
                certificates,
            ))),
        }),
        transport_socket_connect_timeout: pb::seconds(HANDSHAKE_TIMEOUT),
        ..Default::default()
    }
}

/// TLS 1.2 at least, with these certificates to choose from.
fn terminate(certificates: &[SecretId]) -> Any {
    let certificate = |id: &SecretId| tls::SdsSecretConfig {
        name: id.0.to_string(),
        sds_config: Some(pb::ads(CERTIFICATE_WAIT)),
    };
    pb::any(&tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: Some(tls::TlsParameters {
                tls_minimum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv12 as i32,
                tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13 as i32,
                ..Default::default()
            }),
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            tls_certificate_sds_secret_configs: certificates.iter().map(certificate).collect(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests;
