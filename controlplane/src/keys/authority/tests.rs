use std::collections::BTreeSet;

use x509_parser::prelude::*;

use super::*;
use crate::keys::material::{Damage, one_certificate};
use crate::keys::testing::{START, at, handshake, of, settle, short, subject};

fn server(bundle: &Bundle) -> &Leaf {
    bundle.server.as_ref().unwrap()
}

fn next(bundle: &Bundle, t: u64) -> Plan {
    plan(Some(bundle), &subject(), at(t), &short(), false).unwrap()
}

fn serials(bundle: &Bundle) -> Vec<&str> {
    bundle.authorities.iter().map(|a| &*a.serial).collect()
}

fn issuer<'a>(bundle: &'a Bundle, leaf: &Leaf, usage: Usage, t: u64) -> &'a str {
    let mut all = bundle.authorities.iter();
    &all.find(|a| a.issued(leaf, usage, at(t))).unwrap().serial
}

#[test]
fn the_first_plan_makes_all_and_both_ends_talk() {
    let plan = plan(None, &subject(), at(START), &short(), false).unwrap();
    let Changed {
        authorities,
        public,
        server: changed,
        envoys,
    } = &plan.changed;
    assert!(*authorities && *public && *changed);
    assert_eq!(
        *envoys,
        BTreeSet::from(["default".to_owned(), "fast".to_owned()])
    );
    for (shard, leaf) in &plan.bundle.envoys {
        handshake(&plan.bundle, leaf, shard, START).unwrap();
        // A clock that is behind, by less than certificates are backdated.
        handshake(&plan.bundle, leaf, shard, START - 59).unwrap();
        assert!(handshake(&plan.bundle, leaf, shard, START - 61).is_err());
        assert!(handshake(&plan.bundle, leaf, shard, START + 121).is_err());
    }
}

#[test]
fn certificates_say_what_they_should_and_no_more() {
    let bundle = settle(None, START, &short()).bundle;
    let ca_der = one_certificate(&bundle.authorities[0].certificate).unwrap();
    let (_, ca) = X509Certificate::from_der(&ca_der).unwrap();
    let constraints = ca.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca && constraints.path_len_constraint == Some(0));
    assert!(ca.key_usage().unwrap().unwrap().value.key_cert_sign());
    let name = ca
        .subject()
        .iter_common_name()
        .next()
        .unwrap()
        .as_str()
        .unwrap();
    assert!(name.starts_with("team-a/web "), "{name}");

    let mut seen = BTreeSet::from([ca.raw_serial().to_vec()]);
    let path = "spiffe://postern.local/ns/team-a/instance/web";
    let server_names = vec![
        format!("URI({path}/controlplane)"),
        "DNSName(xds)".into(),
        "DNSName(xds.team-a)".into(),
        "DNSName(xds.team-a.svc)".into(),
        "DNSName(xds.team-a.svc.cluster.local)".into(),
    ];
    let fast = vec![format!("URI({path}/shard/fast)")];
    for (leaf, names, client) in [
        (server(&bundle), server_names, false),
        (&bundle.envoys["fast"], fast, true),
    ] {
        let der = one_certificate(&leaf.certificate).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert!(seen.insert(parsed.raw_serial().to_vec()));
        assert!(parsed.raw_serial().len() == 16, "128 random bits");
        assert!(!parsed.is_ca());
        let alternative = parsed.subject_alternative_name().unwrap().unwrap();
        let found: Vec<String> = alternative
            .value
            .general_names
            .iter()
            .map(|name| match name {
                GeneralName::URI(uri) => format!("URI({uri})"),
                GeneralName::DNSName(dns) => format!("DNSName({dns})"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, names);
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        // Envoys are servers too, to routers.
        assert_eq!((usage.client_auth, usage.server_auth), (client, true));
        assert_eq!(parsed.validity().not_before.timestamp(), START as i64 - 60);
        assert_eq!(parsed.validity().not_after.timestamp(), START as i64 + 120);
        assert_eq!(parsed.issuer(), ca.subject());
    }
}

/// As the version before made them: routers would not take it.
#[test]
fn an_envoys_certificate_that_is_for_clients_only_is_replaced() {
    let mut plan = settle(None, START, &short());
    let good = plan.bundle.envoys["fast"].clone();
    let ca = &plan.bundle.authorities[0];
    let issuer_pair = ca.key.as_ref().unwrap().pair().unwrap();
    let signer = rcgen::Issuer::from_ca_cert_pem(&ca.certificate, issuer_pair).unwrap();
    let pair = good.key.pair().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(good.not_before);
    params.not_after = epoch + Duration::from_secs(good.not_after);
    let uri = subject().shard_uri("fast").try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let old = params.signed_by(&pair, &signer).unwrap().pem();
    let wanted = Wanted::shard(&subject(), "fast");
    let old = Leaf::read(&old, &good.key, &good.trust, &wanted).unwrap();
    plan.bundle.envoys.insert("fast".into(), old.clone());
    let after = next(&plan.bundle, START + 1);
    assert_ne!(after.bundle.envoys["fast"], old);
    let other = &plan.bundle.envoys["default"];
    assert_eq!(after.bundle.envoys["default"], *other);
}

#[test]
fn no_key_is_shown() {
    let plan = settle(None, START, &short());
    let shown = format!("{plan:?} {:#?}", plan.bundle);
    assert!(shown.contains("Key(..)"));
    assert!(!shown.contains("PRIVATE KEY"));
    let secret = server(&plan.bundle).key.pem().lines().nth(1).unwrap();
    assert!(!shown.contains(secret));
}

#[test]
fn an_envoy_cannot_be_the_server_and_another_instance_is_nobody() {
    let bundle = settle(None, START, &short()).bundle;
    let envoy = &bundle.envoys["default"];
    let mut thief = bundle.clone();
    thief.server = Some(envoy.clone());
    let error = handshake(&thief, envoy, "default", START).unwrap_err();
    assert!(error.contains("the client refuses"), "{error}");
    // Nor is the server an Envoy.
    let error = handshake(&bundle, server(&bundle), "default", START).unwrap_err();
    assert!(error.contains("the server refuses"), "{error}");

    let other = plan(
        None,
        &of("team-b", &["default"]),
        at(START),
        &short(),
        false,
    )
    .unwrap();
    let mut foreign = other.bundle.envoys["default"].clone();
    foreign.trust = envoy.trust.clone();
    let error = handshake(&bundle, &foreign, "default", START).unwrap_err();
    assert!(error.contains("the server refuses"), "{error}");
}

#[test]
fn what_is_settled_stays() {
    let settled = settle(None, START, &short());
    assert_eq!(settled.bundle.authorities[0].published, Some(START));
    for t in START..START + 70 {
        let again = next(&settled.bundle, t);
        assert_eq!(again.changed, Changed::default(), "{t}");
        assert!(again.next_check > Duration::ZERO && again.next_check <= short().recheck);
    }
}

#[test]
fn certificates_are_renewed_at_two_thirds() {
    let settled = settle(None, START, &short()).bundle;
    // 66 % of 120 s, rounded down to whole seconds of what remains.
    assert_eq!(next(&settled, START + 79).changed, Changed::default());
    assert_eq!(
        next(&settled, START + 78).next_check,
        Duration::from_secs(2)
    );
    let renewed = next(&settled, START + 80);
    assert!(renewed.changed.server && !renewed.changed.authorities && !renewed.changed.public);
    assert_eq!(renewed.changed.envoys.len(), 2);
    let (old, new) = (server(&settled), server(&renewed.bundle));
    assert_ne!(old.key, new.key);
    assert_eq!(new.not_after, START + 200);
    // Those who have not seen the change talk to those who have.
    handshake(
        &renewed.bundle,
        &settled.envoys["fast"],
        "fast",
        START + 100,
    )
    .unwrap();
    handshake(
        &settled,
        &renewed.bundle.envoys["fast"],
        "fast",
        START + 100,
    )
    .unwrap();

    let kept = plan(Some(&settled), &subject(), at(START + 80), &short(), true).unwrap();
    assert_eq!(server(&kept.bundle).key, old.key);
    assert_ne!(server(&kept.bundle).certificate, old.certificate);
    handshake(
        &kept.bundle,
        &kept.bundle.envoys["fast"],
        "fast",
        START + 100,
    )
    .unwrap();
}

/// Runs from `t` on in steps of a second until something holds; gives the time and the bundle.
fn until(mut bundle: Bundle, from: u64, holds: impl Fn(&Bundle, u64) -> bool) -> (u64, Bundle) {
    for t in from..from + 3000 {
        bundle = settle(Some(bundle), t, &short()).bundle;
        if holds(&bundle, t) {
            return (t, bundle);
        }
    }
    panic!("never");
}

#[test]
fn authorities_change_in_steps() {
    let first = settle(None, START, &short()).bundle;
    let a = first.authorities[0].serial.clone();

    // 1 to 2: at 66 % of its life a second one is trusted everywhere, and signs nothing.
    let (t, both) = until(first, START, |b, _| b.authorities.len() == 2);
    assert_eq!(t, START + 792);
    let b = both.authorities[0].serial.clone();
    assert_eq!(serials(&both), [&b, &a]);
    assert_eq!(both.authorities[0].published, Some(t));
    for leaf in both.envoys.values().chain(&both.server) {
        assert_eq!(leaf.trust.matches("BEGIN CERTIFICATE").count(), 2);
    }
    assert_eq!(issuer(&both, server(&both), Usage::Server, t), a);

    // 2 to 3: it signs all when it has been known for an overlap, not a second before.
    let (signs, moved) = until(both, t, |x, t| issuer(x, server(x), Usage::Server, t) == b);
    assert_eq!(signs, t + 60);
    assert_eq!(serials(&moved), [&b, &a]);
    assert_eq!(
        issuer(&moved, &moved.envoys["fast"], Usage::Envoy, signs),
        b
    );
    assert!(moved.authorities[1].key.is_none(), "the old key is gone");
    assert_eq!(moved.authorities[1].retired, Some(signs));

    // 3 to 4.
    let (dropped, last) = until(moved, signs, |b, _| b.authorities.len() == 1);
    assert_eq!(dropped, signs + 60);
    assert_eq!(serials(&last), [&b]);
    assert_eq!(last.public.as_deref(), Some(&*trust(&last.authorities)));
}

#[test]
fn a_new_authority_waits_for_those_who_do_not_list_it_but_not_for_ever() {
    let first = settle(None, START, &short()).bundle;
    let mut bundle = next(&first, START + 800).bundle;
    assert_eq!(bundle.authorities[0].published, None, "not yet read back");
    // A certificate whose Secret cannot be written.
    let stuck = first.envoys["fast"].clone();
    bundle.envoys.insert("fast".into(), stuck.clone());
    let mut published = None;
    for t in START + 800..START + 1100 {
        bundle = next(&bundle, t).bundle;
        if let Some(at) = bundle.authorities[0].published {
            published = Some(at);
            break;
        }
        bundle.envoys.insert("fast".into(), stuck.clone());
    }
    assert_eq!(published, Some(START + 800 + 180));
}

#[test]
fn an_old_authority_stays_while_a_certificate_of_its_making_serves() {
    let first = settle(None, START, &short()).bundle;
    let (t, mut bundle) = until(first, START, |b, _| b.authorities.len() == 2);
    let a = bundle.authorities[1].clone();
    let stuck = bundle.envoys["fast"].clone();
    for t in t..stuck.not_after {
        bundle = next(&bundle, t).bundle;
        bundle.envoys.insert("fast".into(), stuck.clone());
        assert!(
            bundle.authorities.iter().any(|x| x.serial == a.serial),
            "{t}"
        );
    }
}

#[test]
fn without_its_key_an_authority_is_followed_without_a_break() {
    // The Secret was deleted; what was known is trusted on.
    let first = settle(None, START, &short()).bundle;
    let mut lost = first.clone();
    lost.authorities[0].key = None;
    let t = START + 10;
    let plan = settle(Some(lost), t, &short()).bundle;
    assert_eq!(plan.authorities.len(), 2);
    let a = first.authorities[0].serial.clone();
    assert_eq!(
        issuer(&plan, server(&plan), Usage::Server, t),
        a,
        "serves on"
    );
    handshake(&plan, &first.envoys["fast"], "fast", t).unwrap();
    let (signs, moved) = until(plan.clone(), t, |b, t| {
        issuer(b, server(b), Usage::Server, t) != a
    });
    assert_eq!(signs, t + 60);
    handshake(&moved, &plan.envoys["fast"], "fast", signs).unwrap();
}

#[test]
fn nothing_that_was_found_is_an_error() {
    let first = settle(None, START, &short()).bundle;
    let day = 24 * 60 * 60;
    // Off for a year; a clock that was a year ahead; the beginning of time.
    for t in [
        START + 365 * day,
        START - 365 * day,
        0,
        1,
        u64::from(u32::MAX),
    ] {
        let plan = settle(Some(first.clone()), t, &short()).bundle;
        assert_ne!(serials(&plan), serials(&first));
        assert_eq!(plan.authorities.len(), 1, "those of another time are gone");
        handshake(&plan, &plan.envoys["fast"], "fast", t).unwrap();
    }
    // Times that were made up.
    let mut odd = first.clone();
    odd.authorities[0].published = Some(u64::MAX);
    odd.authorities[0].retired = Some(u64::MAX);
    let plan = settle(Some(odd), START, &short()).bundle;
    assert_eq!(plan.authorities[0].published, Some(START + 60));
    assert_eq!(plan.authorities[0].retired, None);
}

#[test]
fn shorter_lives_hold_for_what_there_is() {
    let long = Lifetimes::default();
    let first = settle(None, START, &long).bundle;
    let t = START + 1000;
    let plan = next(&first, t);
    assert_eq!(server(&plan.bundle).not_after, t + 120);
    assert_eq!(plan.bundle.authorities.len(), 2);
    let (_, last) = until(plan.bundle, t, |b, _| b.authorities.len() == 1);
    assert!(last.authorities[0].not_after < t + 1300);
    // And longer ones, at once: what is left is less than a third of them.
    let back = settle(Some(last), t + 200, &long).bundle;
    assert!(back.authorities[0].not_after > t + 80 * 24 * 60 * 60);
}

#[test]
fn a_clock_that_is_a_bit_behind_changes_nothing() {
    let first = settle(None, START, &short()).bundle;
    assert_eq!(next(&first, START - 50).changed, Changed::default());
}

#[test]
fn at_the_end_of_an_authority_there_is_no_renewal_for_a_second_more() {
    let first = settle(None, START, &short()).bundle;
    // Off until a minute before the end of the authority.
    let t = START + 1140;
    let mut bundle = settle(Some(first), t, &short()).bundle;
    assert_eq!(server(&bundle).not_after, START + 1200);
    let mut writes = 0;
    for t in t..t + 59 {
        let plan = next(&bundle, t);
        writes += u32::from(plan.changed.server);
        bundle = plan.bundle;
    }
    assert_eq!(writes, 0);
    // The successor takes over when the old one has ended, announced or not.
    let after = settle(Some(bundle), START + 1200, &short()).bundle;
    assert_eq!(after.authorities.len(), 1);
    handshake(&after, &after.envoys["fast"], "fast", START + 1200).unwrap();
}

#[test]
fn planted_authorities_are_bounded_and_go_and_push_out_nothing() {
    let mut bundle = settle(None, START, &short()).bundle;
    let own = bundle.authorities[0].serial.clone();
    for i in 0..30 {
        let mut planted = make::authority(&subject(), START + 1 + i, &short()).unwrap();
        planted.key = None;
        bundle.authorities.insert(0, planted);
    }
    let t = START + 40;
    let mut plan = settle(Some(bundle), t, &short()).bundle;
    assert_eq!(plan.authorities.len(), MAX_AUTHORITIES + 1);
    assert_eq!(signing(&plan.authorities).map(|a| &*a.serial), Some(&*own));
    plan = settle(Some(plan), t + 60, &short()).bundle;
    assert_eq!(serials(&plan), [&own]);
}

#[test]
fn shards_come_and_go() {
    let first = settle(None, START, &short()).bundle;
    let more = of("team-a", &["default", "fast", "slow"]);
    let plan1 = plan(Some(&first), &more, at(START + 1), &short(), false).unwrap();
    assert_eq!(plan1.changed.envoys, BTreeSet::from(["slow".to_owned()]));
    assert!(!plan1.changed.server && !plan1.changed.authorities);
    let less = of("team-a", &["fast"]);
    let plan2 = plan(Some(&plan1.bundle), &less, at(START + 2), &short(), false).unwrap();
    assert!(!plan2.changed.any());
    assert_eq!(plan2.bundle.envoys.len(), 1);
}

#[test]
fn only_the_own_and_whole_is_read() {
    let bundle = settle(None, START, &short()).bundle;
    let (one, other) = (server(&bundle), &bundle.envoys["fast"]);
    let wanted = Wanted::server(&subject());
    let read = |certificate: &str, key: &Key| Leaf::read(certificate, key, "", &wanted);
    assert!(read(&one.certificate, &one.key).is_ok());
    assert_eq!(read(&one.certificate, &other.key), Err(Damage::KeyMismatch));
    assert_eq!(read(&other.certificate, &other.key), Err(Damage::Names));
    let two = format!("{}{}", one.certificate, other.certificate);
    assert_eq!(read(&two, &one.key), Err(Damage::NotOneCertificate));
    let with_key = format!("{}{}", one.key.pem(), one.certificate);
    assert_eq!(read(&with_key, &one.key), Err(Damage::NotOneCertificate));
    let authority = &bundle.authorities[0];
    let key = authority.key.as_ref().unwrap();
    assert_eq!(read(&authority.certificate, key), Err(Damage::Kind));
    assert_eq!(
        Authority::read(&one.certificate, &subject()),
        Err(Damage::Kind)
    );
    let foreign = make::authority(&of("team-b", &[]), START, &short()).unwrap();
    assert_eq!(
        Authority::read(&foreign.certificate, &subject()),
        Err(Damage::Names)
    );
}
