use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Names that users see and write: a change here breaks them.
#[test]
fn names_stay_what_they_are() {
    let long = "a-team-with-a-name-that-is-as-long-as-names-are-allowed-to-be12";
    for (parts, role, expected) in [
        (&["web"][..], Role::Gateway, "postern-web-gateway"),
        (&["team-a"], Role::Envoy, "postern-team-a-envoy"),
        (
            &["team-a"],
            Role::Controlplane,
            "postern-team-a-controlplane",
        ),
        (
            &["web.example"],
            Role::Gateway,
            "postern-web-example-0hqtiflpvnoylcgpp-gateway",
        ),
        (
            &["team-a", "grant"],
            Role::Secrets,
            "postern-team-a-grant-0ctjnexbj7imzzjqb-secrets",
        ),
        (
            &[long],
            Role::Controlplane,
            "postern-a-team-with-a-name-that-02zri53ssj33okqeu-controlplane",
        ),
        (&[""], Role::Ca, "postern-04b5vjx4rlbjfk7hc-ca"),
        (&[], Role::Ca, "postern-0263z36x7uhmukhde-ca"),
    ] {
        assert_eq!(name(parts, role), expected, "{parts:?} {role}");
    }
}

#[test]
fn an_instance_that_is_named_like_a_hashed_name_gets_another_one() {
    let hashed = name(&["web.example"], Role::Gateway);
    let middle = hashed
        .strip_prefix("postern-")
        .and_then(|rest| rest.strip_suffix("-gateway"))
        .unwrap();
    assert_ne!(name(&[middle], Role::Gateway), hashed);
    let bare = name(&[""], Role::Ca);
    let middle = bare
        .strip_prefix("postern-")
        .and_then(|rest| rest.strip_suffix("-ca"))
        .unwrap();
    assert_ne!(name(&[middle], Role::Ca), bare);
}

#[test]
fn parts_and_roles_do_not_run_into_each_other() {
    for (one, other) in [
        ((&["a", "b"][..], Role::Ca), (&["a-b"][..], Role::Ca)),
        ((&["a", "b-c"], Role::Ca), (&["a-b", "c"], Role::Ca)),
        ((&["a", ""], Role::Ca), (&["a"], Role::Ca)),
        ((&["", "a"], Role::Ca), (&["a", ""], Role::Ca)),
        ((&["a-tls"], Role::Ca), (&["a"], Role::Tls)),
        ((&["a.b"], Role::Ca), (&["a-b"], Role::Ca)),
        ((&["a.b"], Role::Ca), (&["a", "b"], Role::Ca)),
        ((&["A"], Role::Ca), (&["a"], Role::Ca)),
        ((&["-a"], Role::Ca), (&["a"], Role::Ca)),
    ] {
        assert_ne!(
            name(one.0, one.1),
            name(other.0, other.1),
            "{one:?} {other:?}"
        );
    }
}

#[test]
fn role_words_hold_no_hyphen_and_differ() {
    let words: std::collections::BTreeSet<_> = Role::ALL.iter().map(|role| role.as_str()).collect();
    assert_eq!(words.len(), Role::ALL.len());
    for word in words {
        assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
        // Else a hashed name has no room.
        assert!(word.len() <= 16, "{word}");
    }
}

#[test]
fn the_default_shard_has_the_instances_name_and_others_do_not() {
    let names = InstanceNames::new("web");
    assert_eq!(names.envoy(DEFAULT_SHARD), "postern-web-envoy");
    assert_ne!(names.envoy("web"), names.envoy(DEFAULT_SHARD));
    assert_ne!(
        InstanceNames::new("web-blue").envoy(DEFAULT_SHARD),
        names.envoy("blue")
    );
}

fn valid(name: &str) -> bool {
    name.len() <= MAX_LENGTH && is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Names that are near each other, so that collisions would show: of one alphabet, of all lengths
/// around the cut, some of them names that `name` made before.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab]{0,3}(-[ab]{0,2}){0,2}",
        "[a.-]{0,5}",
        "[a-b]{40,60}",
        "[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?",
        ".{0,10}",
        "[ab]{0,2}-?0[a-z2-7]{16}",
        prop::collection::vec("[a.-]{0,60}", 0..3).prop_map(|parts| {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let name = name(&parts, Role::Ca);
            name["postern-".len()..name.len() - "-ca".len()].to_owned()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_name_is_a_label(parts in prop::collection::vec(part(), 0..4)) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        for role in Role::ALL {
            let made = name(&parts, role);
            prop_assert!(valid(&made), "{made}");
            prop_assert_eq!(name(&parts, role), made);
        }
    }

    #[test]
    fn different_inputs_have_different_names(
        inputs in prop::collection::btree_set(prop::collection::vec(part(), 0..3), 2..30)
    ) {
        let mut seen = BTreeMap::new();
        for input in &inputs {
            let parts: Vec<&str> = input.iter().map(String::as_str).collect();
            for role in Role::ALL {
                let before = seen.insert(name(&parts, role), (input, role));
                prop_assert_eq!(before, None);
            }
        }
    }
}
