//! What Envoy would refuse, or read otherwise than the model means it.
//!
//! The translator has refused most of this before, with a condition that names the field. This is
//! the last door: whatever comes here, no table is sent that Envoy refuses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use postern_model::{
    Action, Host, Match, PathMatch, PathRewrite, Redirect, RouteEntry, Target, Text,
};

use crate::route::BROKEN_CLUSTER;

/// The longest query parameter name that Envoy takes (`QueryParameterMatcher.name`), in bytes.
const MAX_QUERY_NAME: usize = 1024;

/// The longest name of a cluster, listener, table or secret that is sent, in bytes. Envoy has no
/// limit; names become parts of stats and logs.
const MAX_NAME: usize = 1024;

/// Whether an entry can be sent as it is.
///
/// # Errors
/// What is wrong, for people. An entry whose action is wrong is sent with its match and answers
/// 500. One whose match is wrong is left out: no request meets such a match, or Envoy cannot
/// express it.
pub fn check(entry: &RouteEntry) -> Result<(), Text> {
    matcher(&entry.matcher)?;
    action(&entry.matcher, &entry.action)
}

/// Whether a match can be sent.
pub(crate) fn matcher(matcher: &Match) -> Result<(), Text> {
    let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &matcher.path;
    plain_path("path", path)?;
    if let Some(method) = &matcher.method
        && !is_token(method)
    {
        return Err(text(format!(
            "the method {} is no HTTP token",
            quote(method)
        )));
    }
    for header in &matcher.headers {
        if !is_token(&header.name) {
            return Err(text(format!(
                "the header name {} is no HTTP token",
                quote(&header.name)
            )));
        }
        let postern_model::ValueMatch::Exact(value) = &header.value;
        if value.bytes().any(|byte| byte != b'\t' && is_control(byte)) {
            return Err(text(format!(
                "the value {} of header {} has a control character",
                quote(value),
                quote(&header.name)
            )));
        }
    }
    for query in &matcher.query {
        let postern_model::ValueMatch::Exact(value) = &query.value;
        if query.name.is_empty() || query.name.len() > MAX_QUERY_NAME {
            return Err(text(format!(
                "the query parameter name {} is not 1 to {MAX_QUERY_NAME} bytes long",
                quote(&query.name)
            )));
        }
        plain_query("query parameter name", &query.name, "#&=")?;
        plain_query("query parameter value", value, "#&")?;
    }
    Ok(())
}

/// Whether an action can be sent, for requests that meet `matcher`.
pub(crate) fn action(matcher: &Match, action: &Action) -> Result<(), Text> {
    match action {
        Action::Forward(backends) => {
            if !backends.iter().any(|backend| backend.weight > 0) {
                return Err(text("no backend has a weight above 0".to_owned()));
            }
            for backend in backends {
                if let Target::Cluster(id) = &backend.target {
                    cluster_name(&id.0)?;
                }
            }
            Ok(())
        }
        Action::Redirect(redirect) => self::redirect(&matcher.path, redirect),
        Action::Fixed(fixed) if (200..600).contains(&fixed.status) => Ok(()),
        Action::Fixed(fixed) => Err(text(format!(
            "the status {} is not between 200 and 599",
            fixed.status
        ))),
    }
}

fn redirect(path: &PathMatch, redirect: &Redirect) -> Result<(), Text> {
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        return Err(text(format!(
            "the redirect status {} is none of 301, 302, 303, 307, 308",
            redirect.status
        )));
    }
    if let Some(scheme) = &redirect.scheme
        && !matches!(&**scheme, "http" | "https")
    {
        return Err(text(format!(
            "the redirect scheme {} is neither http nor https",
            quote(scheme)
        )));
    }
    if let Some(host) = &redirect.host
        && !is_dns_name(host)
    {
        return Err(text(format!(
            "the redirect host {} is no DNS name in lower case",
            quote(host)
        )));
    }
    if redirect.port == Some(0) {
        return Err(text("the redirect port is 0".to_owned()));
    }
    match (&redirect.path, path) {
        (None, _) => Ok(()),
        (Some(PathRewrite::Full(to)), _) => plain_path("redirect path", to),
        (Some(PathRewrite::Prefix(to)), PathMatch::Prefix(_)) if to.is_empty() => Ok(()),
        (Some(PathRewrite::Prefix(to)), PathMatch::Prefix(_)) => plain_path("redirect prefix", to),
        (Some(PathRewrite::Prefix(_)), PathMatch::Exact(_)) => Err(text(
            "a prefix can be replaced only where a prefix is matched".to_owned(),
        )),
    }
}

/// Whether a virtual host can be sent. Without this, `*foo` would be a wildcard to Envoy though
/// the model means a name.
pub(crate) fn host(host: &Host) -> Result<(), Text> {
    match host {
        Host::Any => Ok(()),
        Host::Exact(name) | Host::Wildcard(name) if is_dns_name(name) => Ok(()),
        Host::Exact(_) | Host::Wildcard(_) => Err(text(format!(
            "the host {} is no DNS name in lower case",
            quote(&host.to_string())
        ))),
    }
}

/// Whether a name of a listener, table, cluster or secret can be sent.
pub(crate) fn name(what: &str, name: &str) -> Result<(), Text> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(text(format!(
            "the {what} name {} is not 1 to {MAX_NAME} bytes long",
            quote(name)
        )));
    }
    if name.bytes().any(is_control) {
        return Err(text(format!(
            "the {what} name {} has a control character",
            quote(name)
        )));
    }
    // To Envoy, that is all resources of a type, and a resource of another authority.
    if name == "*" || name.starts_with("xdstp:") {
        return Err(text(format!(
            "the {what} name {} has a meaning of its own in xDS",
            quote(name)
        )));
    }
    Ok(())
}

/// Whether a cluster's name can be sent.
pub(crate) fn cluster_name(id: &str) -> Result<(), Text> {
    if id == BROKEN_CLUSTER {
        return Err(text(format!(
            "the cluster name {BROKEN_CLUSTER} stands for no cluster"
        )));
    }
    name("cluster", id)
}

/// Whether requests may be sent to an address. Refused are those that lead back into the proxy's
/// own pod or host, or to no single host: a hand-made EndpointSlice may name them to reach Envoy's
/// own ports or a cloud's metadata service (CVE-2021-25740).
pub(crate) fn endpoint(ip: IpAddr, port: u16, allow_loopback: bool) -> Result<(), Text> {
    let ip = ip.to_canonical();
    let why = if port == 0 {
        "the port is 0"
    } else if ip.is_loopback() {
        if allow_loopback {
            return Ok(());
        }
        "it is a loopback address"
    } else if is_unspecified(ip) {
        "it is an unspecified address"
    } else if is_link_local(ip) {
        "it is a link-local address"
    } else if is_to_many(ip) {
        "it is a multicast, broadcast or reserved address"
    } else {
        return Ok(());
    };
    Err(text(format!("the endpoint {ip} port {port}: {why}")))
}

/// 0.0.0.0/8 ("this network": Linux connects to itself) and ::/96 (`::` and the long-dead
/// IPv4-compatible form).
fn is_unspecified(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.segments()[..6].iter().all(|part| *part == 0),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0) == 0xfe80,
    }
}

fn is_to_many(ip: IpAddr) -> bool {
    match ip {
        // 224.0.0.0/4, 240.0.0.0/4 and 255.255.255.255.
        IpAddr::V4(ip) => ip >= Ipv4Addr::new(224, 0, 0, 0),
        IpAddr::V6(ip) => ip >= Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
    }
}

/// A path as it can stand in a canonical request, without query.
fn plain_path(what: &str, path: &str) -> Result<(), Text> {
    if !path.starts_with('/') {
        return Err(text(format!(
            "the {what} {} does not start with /",
            quote(path)
        )));
    }
    let odd = |character: char| !character.is_ascii_graphic() || matches!(character, '?' | '#');
    if let Some(character) = path.chars().find(|character| odd(*character)) {
        return Err(text(format!(
            "the {what} {} has the character {character:?}, which must be percent-encoded",
            quote(path)
        )));
    }
    Ok(())
}

/// Text as it can stand in a request's query: Envoy does not decode it before it compares.
fn plain_query(what: &str, value: &str, special: &str) -> Result<(), Text> {
    let odd = |one: &char| !one.is_ascii_graphic() || special.contains(*one);
    match value.chars().find(odd) {
        None => Ok(()),
        Some(character) => Err(text(format!(
            "the {what} {} has the character {character:?}, which must be percent-encoded",
            quote(value)
        ))),
    }
}

/// Letters, digits, `-`, `_` and `.` in lower case, with no empty label, at most 253 bytes.
fn is_dns_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| {
                    byte.is_ascii_lowercase()
                        || byte.is_ascii_digit()
                        || matches!(byte, b'-' | b'_')
                })
        })
}

/// A `token` of RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

fn text(message: String) -> Text {
    message.into()
}

/// A tenant's text in a message: short, on one line, nothing in it that a terminal or log takes
/// as a command.
fn quote(value: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown: String = value.chars().take(SHOWN).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests;
