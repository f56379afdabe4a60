use super::*;
use crate::keys::testing::{START, handshake_with, settle, short, subject};

#[test]
fn what_is_equal_is_not_published_again() {
    let bundle = settle(None, START, &short()).bundle;
    let mut publisher = Publisher::new();
    assert!(publisher.receiver().is_none());
    assert!(matches!(
        publisher.publish(&Bundle::default()),
        Err(TlsError::NoCertificate)
    ));
    assert!(publisher.publish(&bundle).unwrap());
    let tls = publisher.receiver().unwrap();
    assert!(!publisher.publish(&bundle).unwrap());
    // What is remembered of authorities, and the Envoys' certificates, are nothing to the server.
    let mut other = bundle.clone();
    other.authorities[0].published = None;
    other.envoys.clear();
    assert!(!publisher.publish(&other).unwrap());
    assert!(!tls.has_changed().unwrap());

    let renewed = settle(Some(bundle.clone()), START + 80, &short()).bundle;
    assert!(publisher.publish(&renewed).unwrap());
    assert!(tls.has_changed().unwrap());
    let announced = settle(Some(renewed), START + 800, &short()).bundle;
    assert!(publisher.publish(&announced).unwrap());
    let envoy = &announced.envoys["fast"];
    handshake_with(&tls.borrow(), envoy, &subject(), "fast", START + 800).unwrap();
}

#[test]
fn what_cannot_serve_leaves_what_does() {
    let bundle = settle(None, START, &short()).bundle;
    let mut publisher = Publisher::new();
    publisher.publish(&bundle).unwrap();
    let tls = publisher.receiver().unwrap();
    let mut nobody = bundle.clone();
    nobody.authorities.clear();
    let mut mixed = bundle.clone();
    mixed.server.as_mut().unwrap().key = bundle.envoys["fast"].key.clone();
    for bad in [nobody, mixed] {
        let error = publisher.publish(&bad).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("PRIVATE"));
    }
    assert!(!tls.has_changed().unwrap());
    handshake_with(
        &tls.borrow(),
        &bundle.envoys["fast"],
        &subject(),
        "fast",
        START,
    )
    .unwrap();
}

#[test]
fn a_server_asks_for_a_certificate_and_remembers_nobody() {
    let bundle = settle(None, START, &short()).bundle;
    let config = server_config(&bundle).unwrap();
    assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
    assert_eq!(config.send_tls13_tickets, 0);
    assert!(!config.session_storage.can_cache());
}
