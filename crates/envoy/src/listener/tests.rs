use super::*;
use crate::fixtures::{listener as plain, origin};
use postern_model::Trust;
use prost::Message;

/// Knows what does not start with "missing".
struct All;

impl Known for All {
    fn table(&self, id: &TableId) -> bool {
        !id.0.starts_with("missing")
    }

    fn secret(&self, id: &SecretId) -> bool {
        !id.0.starts_with("missing")
    }
}

fn chain(name: &str, certificate: &str, table: &str) -> TlsChain {
    TlsChain {
        server_name: Host::parse(name),
        certificates: vec![SecretId(certificate.into())],
        table: TableId(table.into()),
        origin: origin("Gateway", name),
    }
}

fn https(chains: Vec<TlsChain>) -> Listener {
    Listener {
        kind: ListenerKind::Https { chains },
        ..(*plain("a", 8443, "t", Trust::Nothing)).clone()
    }
}

#[test]
fn one_bad_chain_leaves_the_others() {
    let chains = vec![
        chain("a.example", "c", "t"),
        chain("b.example", "missing", "t"),
        chain("c.example", "c", "missing"),
        chain("a.example", "c", "t"),
        chain("*x", "c", "t"),
        chain("*", "c", "t"),
        TlsChain {
            certificates: Vec::new(),
            ..chain("d.example", "c", "t")
        },
    ];
    let listener = https(chains);
    let plan = plan(&listener, &All);
    assert_eq!(plan.chains, [0, 5]);
    let refused: Vec<&str> = plan.refused.iter().map(|(at, _)| &*at.name).collect();
    assert_eq!(
        refused,
        ["b.example", "c.example", "a.example", "*x", "d.example"]
    );
    let message = super::listener(&listener, &plan, IpAddr::from([0, 0, 0, 0]));
    let names: Vec<_> = message
        .filter_chains
        .iter()
        .map(|chain| chain.filter_chain_match.clone().unwrap().server_names)
        .collect();
    assert_eq!(names, [vec!["a.example".to_owned()], vec![]]);
}

#[test]
fn a_listener_without_its_table_is_left_out() {
    for listener in [
        plain("a", 8080, "missing", Trust::Nothing),
        plain("", 8080, "t", Trust::Nothing),
        plain("a\n", 8080, "t", Trust::Nothing),
        plain("a", 0, "t", Trust::Nothing),
    ] {
        let plan = plan(&listener, &All);
        assert!(plan.chains.is_empty());
        assert_eq!(plan.refused.len(), 1);
    }
    assert_eq!(
        plan(&plain("a", 8080, "t", Trust::Nothing), &All).chains,
        [0]
    );
}

#[test]
fn the_proxy_header_comes_before_the_client_hello() {
    let names = |listener: &Listener| -> Vec<String> {
        let filters = listener_filters(listener).into_iter();
        filters.map(|filter| filter.name).collect()
    };
    let proxied = Listener {
        trust: Trust::ProxyProtocol,
        ..https(vec![chain("a.example", "c", "t")])
    };
    let expected = [
        "envoy.filters.listener.proxy_protocol",
        "envoy.filters.listener.tls_inspector",
    ];
    assert_eq!(names(&proxied), expected);
    assert_eq!(names(&plain("a", 8080, "t", Trust::Nothing)), [""; 0]);
}

/// Envoy drains a listener's connections when anything in it differs, so encoding must not depend
/// on chance.
#[test]
fn a_listener_encodes_the_same_each_time() {
    let listener = https(vec![
        chain("a.example", "c", "t"),
        chain("*.example", "d", "u"),
    ]);
    let plan = plan(&listener, &All);
    let bytes = || super::listener(&listener, &plan, IpAddr::from([0, 0, 0, 0])).encode_to_vec();
    let first = bytes();
    for _ in 0..50 {
        assert_eq!(bytes(), first);
    }
}
