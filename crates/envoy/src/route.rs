//! One entry: what it matches, and what happens.
//!
//! The model's words, and Envoy's (`envoy.config.route.v3.RouteMatch`):
//!
//! | model | Envoy |
//! | --- | --- |
//! | `PathMatch::Exact` | `path`; for `/` two routes, see [`double_slash`] |
//! | `PathMatch::Prefix("/")` | `prefix: /` |
//! | `PathMatch::Prefix` | `path_separated_prefix`: `/foo` and `/foo/bar`, not `/foobar` |
//! | `Match::method` | a header match on `:method` |
//! | `HeaderMatch` | `headers`; where a header comes several times, one of the values is enough |
//! | `QueryMatch` | `query_parameters`; the first value as it stands in the request, not decoded |

use std::iter::once;

use envoy_types::pb::envoy::config::route::v3 as rt;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use postern_model::{
    Action, Backend, Fixed, HeaderMatch, Host, Match, PathMatch, QueryMatch, RouteEntry, Target,
    Text, ValueMatch,
};
use rt::route_match::PathSpecifier;

use crate::{check, pb, redirect};

/// The name of a cluster that never exists: the share of a broken backend goes there, and Envoy
/// answers it with 500. No Kubernetes namespace starts with `!`.
pub const BROKEN_CLUSTER: &str = "!broken";

/// An entry in Envoy's words.
pub(crate) struct Encoded {
    /// The routes, tried in this order; mostly one. None if the match cannot be sent.
    pub(crate) routes: Vec<rt::Route>,
    /// Why the entry is not sent as the model has it.
    pub(crate) refused: Option<Text>,
}

/// Translates an entry of the virtual host for `host`.
pub(crate) fn encode(entry: &RouteEntry, host: &Host) -> Encoded {
    if let Err(why) = check::matcher(&entry.matcher) {
        return Encoded {
            routes: Vec::new(),
            refused: Some(why),
        };
    }
    if let Err(why) = check::action(&entry.matcher, &entry.action) {
        return Encoded {
            routes: vec![route(matching(&entry.matcher), fixed(500))],
            refused: Some(why),
        };
    }
    let mut routes = match &entry.action {
        Action::Forward(backends) => vec![route(matching(&entry.matcher), forward(backends))],
        Action::Fixed(Fixed { status, because: _ }) => {
            vec![route(matching(&entry.matcher), fixed(*status))]
        }
        Action::Redirect(redirect) => redirect::routes(&entry.matcher, redirect, host),
    };
    let doubled: Vec<rt::Route> = routes.iter().filter_map(double_slash).collect();
    routes.extend(doubled);
    Encoded {
        routes,
        refused: None,
    }
}

/// A route for exactly `/`, for `//`: Envoy merges slashes, but a path of nothing else stays two.
fn double_slash(route: &rt::Route) -> Option<rt::Route> {
    let mut double = route.clone();
    match &mut double.r#match.as_mut()?.path_specifier {
        Some(PathSpecifier::Path(path)) if path == "/" => path.push('/'),
        _ => return None,
    }
    Some(double)
}

/// A route without a name: what it came from is known to the encoder, and need not take up
/// Envoy's memory.
pub(crate) fn route(r#match: rt::RouteMatch, action: rt::route::Action) -> rt::Route {
    rt::Route {
        r#match: Some(r#match),
        action: Some(action),
        ..Default::default()
    }
}

/// All conditions of a match.
pub(crate) fn matching(conditions: &Match) -> rt::RouteMatch {
    let Match {
        path,
        method,
        headers,
        query,
    } = conditions;
    let method = method.as_ref().map(|method| header(":method", method));
    rt::RouteMatch {
        path_specifier: Some(path_specifier(path)),
        headers: method
            .into_iter()
            .chain(headers.iter().map(header_match))
            .collect(),
        query_parameters: query.iter().map(query_match).collect(),
        ..Default::default()
    }
}

fn path_specifier(path: &PathMatch) -> PathSpecifier {
    match path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.to_string()),
        PathMatch::Prefix(prefix) => match without_slash(prefix) {
            "" => PathSpecifier::Prefix("/".to_owned()),
            prefix => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
        },
    }
}

/// A prefix without slashes at its end; `/` becomes empty.
pub(crate) fn without_slash(prefix: &str) -> &str {
    prefix.trim_end_matches('/')
}

fn header_match(condition: &HeaderMatch) -> rt::HeaderMatcher {
    let HeaderMatch { name, value } = condition;
    let ValueMatch::Exact(value) = value;
    header(name, value)
}

fn header(name: &str, exactly: &str) -> rt::HeaderMatcher {
    use rt::header_matcher::HeaderMatchSpecifier;
    rt::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact(exactly))),
        ..Default::default()
    }
}

fn query_match(condition: &QueryMatch) -> rt::QueryParameterMatcher {
    use rt::query_parameter_matcher::QueryParameterMatchSpecifier;
    let QueryMatch { name, value } = condition;
    let ValueMatch::Exact(value) = value;
    rt::QueryParameterMatcher {
        name: name.to_string(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(exact(
            value,
        ))),
    }
}

fn exact(value: &str) -> matcher::StringMatcher {
    matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(
            value.to_owned(),
        )),
        ..Default::default()
    }
}

/// A value with this text somewhere in it.
pub(crate) fn contains(value: &str) -> matcher::StringMatcher {
    matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Contains(
            value.to_owned(),
        )),
        ..Default::default()
    }
}

/// An answer without body.
pub(crate) fn fixed(status: u16) -> rt::route::Action {
    rt::route::Action::DirectResponse(rt::DirectResponseAction {
        status: u32::from(status),
        ..Default::default()
    })
}

/// Refuses requests whose `Host` is no single host: with several `Host` headers, Envoy joins them
/// by a comma. `a.example,evil.example` ends as a wildcard wants it, and what comes after the last
/// colon counts as a port: `a.example:80,evil.example` is the host `a.example`. The first route of
/// each virtual host. (RFC 9112, section 3.2: 400.)
pub(crate) fn one_host_only() -> rt::Route {
    use rt::header_matcher::HeaderMatchSpecifier;
    let matching = rt::RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        headers: vec![rt::HeaderMatcher {
            name: ":authority".to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(contains(","))),
            ..Default::default()
        }],
        ..Default::default()
    };
    route(matching, fixed(400))
}

/// Backends by weight. Those without weight are left out; the broken ones are one.
fn forward(backends: &[Backend]) -> rt::route::Action {
    use rt::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier};
    let good = backends.iter().filter_map(|backend| {
        let Target::Cluster(id) = &backend.target else {
            return None;
        };
        Some((&*id.0, u64::from(backend.weight)))
    });
    let broken: u64 = backends
        .iter()
        .filter(|backend| matches!(backend.target, Target::Broken(_)))
        .map(|backend| u64::from(backend.weight))
        .sum();
    let mut shares: Vec<(&str, u64)> = good
        .chain(once((BROKEN_CLUSTER, broken)))
        .filter(|(_, weight)| *weight > 0)
        .collect();
    scale(&mut shares);
    let specifier = match shares.as_slice() {
        [] | [(BROKEN_CLUSTER, _)] => return fixed(500),
        [(cluster, _)] => ClusterSpecifier::Cluster((*cluster).to_owned()),
        shares => ClusterSpecifier::WeightedClusters(rt::WeightedCluster {
            clusters: shares.iter().map(weighted).collect(),
            ..Default::default()
        }),
    };
    let not_found = if broken > 0 {
        ClusterNotFoundResponseCode::InternalServerError
    } else {
        ClusterNotFoundResponseCode::ServiceUnavailable
    };
    rt::route::Action::Route(rt::RouteAction {
        cluster_specifier: Some(specifier),
        cluster_not_found_response_code: not_found as i32,
        // Envoy's default of 15 s would cut every long answer and stream. The Gateway API has no
        // timeout where none is given; a stream without a byte ends by `http::STREAM_IDLE`.
        timeout: pb::seconds(0),
        ..Default::default()
    })
}

fn weighted((cluster, weight): &(&str, u64)) -> rt::weighted_cluster::ClusterWeight {
    rt::weighted_cluster::ClusterWeight {
        name: (*cluster).to_owned(),
        weight: pb::number(u32::try_from(*weight).unwrap_or(u32::MAX)),
        ..Default::default()
    }
}

/// Makes the sum of the weights fit into 32 bits, as Envoy wants it; no share becomes 0.
fn scale(shares: &mut [(&str, u64)]) {
    let sum: u64 = shares.iter().map(|(_, weight)| weight).sum();
    let limit = u64::from(u32::MAX);
    if sum > limit {
        // One each is set apart, so that rounding up cannot pass the limit.
        let room = u128::from(limit - shares.len() as u64);
        for (_, weight) in shares {
            let share = u128::from(*weight) * room / u128::from(sum);
            *weight = 1 + u64::try_from(share).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests;
