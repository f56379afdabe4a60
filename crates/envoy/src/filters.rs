//! Which HTTP filters run, and in which order: the one table.
//!
//! A filter is a row here and a file of its own that builds its configuration. The order is that
//! of requests; answers pass the other way. It is fixed, and never depends on the order in which
//! policies were written: a firewall that runs before or after authentication is another firewall.

use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Any;
use postern_model::Listener;

use crate::pb;

/// One row: the filter's name in Envoy, and its configuration for a listener, if it has one there.
type Row = (&'static str, fn(&Listener) -> Option<Any>);

/// The filters, first to last.
const ORDER: &[Row] = &[
    // Sends the request to the backend of its route. The last one, always.
    ("envoy.filters.http.router", router),
];

/// The HTTP filters of a listener.
pub(crate) fn chain(listener: &Listener) -> Vec<hcm::HttpFilter> {
    ORDER
        .iter()
        .filter_map(|(name, config)| {
            Some(hcm::HttpFilter {
                name: (*name).to_owned(),
                config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config(listener)?)),
                ..Default::default()
            })
        })
        .collect()
}

fn router(_: &Listener) -> Option<Any> {
    Some(pb::any(&Router {
        // No `x-envoy-*` header leaves, neither towards backends nor towards clients.
        suppress_envoy_headers: true,
        ..Default::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_is_last_and_no_filter_comes_twice() {
        assert_eq!(
            ORDER.last().map(|row| row.0),
            Some("envoy.filters.http.router")
        );
        let mut names: Vec<&str> = ORDER.iter().map(|row| row.0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ORDER.len());
    }
}
