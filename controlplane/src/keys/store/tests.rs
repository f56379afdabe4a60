use super::*;
use crate::keys::authority::plan;
use crate::keys::make;
use crate::keys::testing::{START, at, contents, handshake, of, settle, short, subject};

fn stored(bundle: &Bundle) -> Stored<()> {
    let all = contents(bundle, &subject()).into_iter();
    all.map(|(part, contents)| (part, (contents, ()))).collect()
}

/// A bundle with an authority that signs, one that is announced, and an old one.
fn full() -> Bundle {
    let mut bundle = settle(None, START, &short()).bundle;
    bundle = settle(Some(bundle), START + 800, &short()).bundle;
    let mut old = make::authority(&subject(), START, &short()).unwrap();
    old.key = None;
    old.retired = Some(START + 790);
    bundle.authorities.push(old);
    bundle.public = Some(trust(&bundle.authorities).into());
    bundle
}

fn text(stored: &Stored<()>, part: &Part, key: &str) -> String {
    String::from_utf8(stored[part].0.0[key].clone()).unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let bundle = full();
    let stored = stored(&bundle);
    let (read, warnings) = decode(&stored, &subject());
    assert_eq!(warnings, []);
    assert_eq!(read, bundle);
    // Written again, it is the same: equal contents are not written.
    for (part, (contents, ())) in &stored {
        assert_eq!(encode(&read, part).as_ref(), Some(contents), "{part}");
    }
    let authority = &Part::Authority;
    assert_eq!(
        text(&stored, authority, "next.crt"),
        *bundle.authorities[0].certificate
    );
    assert_eq!(
        text(&stored, authority, "tls.crt"),
        *bundle.authorities[1].certificate
    );
    assert_eq!(
        text(&stored, authority, "old.crt"),
        *bundle.authorities[2].certificate
    );
    assert_eq!(
        text(&stored, &Part::Public, "ca.crt")
            .matches("BEGIN")
            .count(),
        3
    );
    for part in [Part::Public, Part::Server, Part::Envoy("fast".into())] {
        let whole = format!("{:?}", stored[&part].0.0.keys());
        assert!(
            !whole.contains("next") && !whole.contains("state"),
            "{whole}"
        );
        if part == Part::Public {
            assert!(!text(&stored, &part, "ca.crt").contains("PRIVATE"));
        }
    }
    assert!(!format!("{stored:?}").contains("BEGIN"));
}

#[test]
fn slots_may_be_swapped() {
    let bundle = full();
    let mut stored = stored(&bundle);
    let data = &mut stored.get_mut(&Part::Authority).unwrap().0.0;
    let (one, other) = (data["tls.key"].clone(), data["next.key"].clone());
    data.insert("tls.key".into(), other);
    data.insert("next.key".into(), one);
    let (read, warnings) = decode(&stored, &subject());
    assert_eq!((read, warnings), (bundle, vec![]));
}

type Tamper = Box<dyn Fn(&mut BTreeMap<String, Vec<u8>>)>;

fn set(key: &'static str, value: impl Into<Vec<u8>>) -> Tamper {
    let value = value.into();
    Box::new(move |data| drop(data.insert(key.into(), value.clone())))
}

fn remove(key: &'static str) -> Tamper {
    Box::new(move |data| drop(data.remove(key)))
}

/// What a tenant may do to its Secrets. Each is found, named, and made good.
#[test]
fn whatever_is_in_the_store_is_made_good() {
    let bundle = settle(None, START, &short()).bundle;
    let foreign = plan(
        None,
        &of("team-b", &["default", "fast"]),
        at(START),
        &short(),
        false,
    );
    let foreign = foreign.unwrap().bundle;
    let twin = settle(None, START, &short()).bundle;
    let (own, their) = (&bundle.authorities[0], &foreign.authorities[0]);
    let their_key = their.key.as_ref().unwrap().pem();
    let server = bundle.server.as_ref().unwrap();
    let rsa = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    let a = Part::Authority;
    let (s, e) = (Part::Server, Part::Envoy("fast".into()));
    let cases: Vec<(&Part, Tamper, Option<Damage>)> = vec![
        (&a, remove("tls.key"), Some(Damage::Missing("tls.key"))),
        (&a, remove("tls.crt"), Some(Damage::Missing("tls.crt"))),
        (
            &a,
            Box::new(BTreeMap::clear),
            Some(Damage::Missing("tls.crt")),
        ),
        (&a, set("tls.key", their_key), Some(Damage::KeyMismatch)),
        (&a, set("tls.key", rsa), Some(Damage::KeyMismatch)),
        (&a, set("tls.crt", &*their.certificate), Some(Damage::Names)),
        (&a, set("tls.crt", &*server.certificate), Some(Damage::Kind)),
        (&a, set("tls.crt", ""), Some(Damage::NotOneCertificate)),
        (&a, set("tls.crt", vec![0xff; 99]), Some(Damage::NotText)),
        (
            &a,
            set("tls.crt", vec![b'a'; MAX_PEM + 1]),
            Some(Damage::TooLarge),
        ),
        (&a, set("old.crt", &*their.certificate), Some(Damage::Names)),
        (&a, set("old.crt", "junk"), None),
        (
            &a,
            set("next.crt", &*their.certificate),
            Some(Damage::Names),
        ),
        (&a, set("next.crt", "\0"), Some(Damage::NotOneCertificate)),
        (&a, set("state", "{\"published\":7}"), Some(Damage::State)),
        (&a, set("state", "[".repeat(20_000)), Some(Damage::State)),
        (
            &a,
            set("state", "{\"published\":{\"x\":-1}}"),
            Some(Damage::State),
        ),
        (&a, remove("state"), None),
        (&a, set("mine", "too"), None),
        (&s, remove("tls.key"), Some(Damage::Missing("tls.key"))),
        (&s, set("tls.key", their_key), Some(Damage::KeyMismatch)),
        (&s, set("tls.key", "\u{feff}"), Some(Damage::Key)),
        (
            &s,
            set(
                "tls.crt",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ),
            Some(Damage::NotOneCertificate),
        ),
        (
            &s,
            set("tls.crt", &*own.certificate),
            Some(Damage::KeyMismatch),
        ),
        (&s, set("ca.crt", &*their.certificate), None),
        (&s, remove("ca.crt"), None),
        (&e, set("ca.crt", vec![0xff]), None),
        (
            &e,
            set("tls.crt", &*bundle.envoys["default"].certificate),
            Some(Damage::KeyMismatch),
        ),
        (&Part::Public, set("ca.crt", &*their.certificate), None),
        (
            &Part::Public,
            remove("ca.crt"),
            Some(Damage::Missing("ca.crt")),
        ),
    ];
    for (n, (part, tamper, damage)) in cases.iter().enumerate() {
        let mut stored = stored(&bundle);
        tamper(&mut stored.get_mut(part).unwrap().0.0);
        let (read, warnings) = decode(&stored, &subject());
        match damage {
            Some(damage) => {
                let expected = Warning {
                    part: (*part).clone(),
                    damage: *damage,
                };
                assert!(warnings.contains(&expected), "{n}: {warnings:?}");
            }
            None => assert_eq!(warnings, [], "{n}"),
        }
        let whole = settle(Some(read), START + 1, &short()).bundle;
        for (shard, leaf) in &whole.envoys {
            handshake(&whole, leaf, shard, START + 1).unwrap_or_else(|e| panic!("{n}: {e}"));
        }
        let public = whole.public.as_deref().unwrap();
        assert_eq!(public, trust(&whole.authorities), "{n}");
        assert!(!public.contains(&*their.certificate), "{n}");
        // And the store is put right.
        let differs = contents(&whole, &subject())
            .iter()
            .any(|(p, c)| stored[p].0 != *c);
        assert!(differs, "{n}");
    }

    // Whole and fitting, but of another authority or of another instance: not trusted either.
    for (other, warned) in [(&twin, 0), (&foreign, 2)] {
        let mut stored = stored(&bundle);
        let theirs = encode(other, &e).unwrap();
        stored.insert(e.clone(), (theirs, ()));
        stored.insert(s.clone(), (encode(other, &s).unwrap(), ()));
        let (read, warnings) = decode(&stored, &subject());
        assert_eq!(warnings.len(), warned);
        let whole = settle(Some(read), START + 1, &short()).bundle;
        assert_ne!(
            whole.envoys["fast"].certificate,
            other.envoys["fast"].certificate
        );
        handshake(&whole, &whole.envoys["fast"], "fast", START + 1).unwrap();
        handshake(&whole, &bundle.envoys["default"], "default", START + 1).unwrap();
    }
}

#[test]
fn what_signs_is_written_before_what_it_signed() {
    let parts = Part::of(&subject());
    assert_eq!(parts.first(), Some(&Part::Authority));
    assert_eq!(parts.last(), Some(&Part::Server));
    assert_eq!(parts.len(), 5);
}
