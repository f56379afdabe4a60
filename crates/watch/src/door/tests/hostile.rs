//! What a hostile tenant may write.

use super::*;

#[test]
fn hostile_text_stays_a_value() {
    let nasty = "\"; }\n%\0\u{1b}[31m{{.}}$(id)`'\\";
    let text = serde_json::json!({
        "metadata": {"name": "x", "namespace": nasty},
        "spec": {
            "hostnames": [nasty],
            "rules": [{"matches": [{"path": {"value": nasty}, "headers": [{"name": nasty, "value": nasty}]}], nasty: 1}],
        },
    })
    .to_string();
    let route = object::<HttpRoute>(&text);
    assert_eq!(&*route.meta.key.namespace, nasty);
    let valid = route.valid().expect("valid");
    assert_eq!(&*valid.hostnames[0], nasty);
    assert_eq!(&*valid.rules[0].matches[0].path, nasty);
    assert_eq!(&*valid.rules[0].matches[0].headers[0].value, nasty);
    // What people will read is one line.
    let named = route.unsupported[0].to_string();
    assert!(
        named.starts_with("spec.rules[0].\"; }\\u{a}%\\u{0}\\u{1b}"),
        "{named}"
    );
    assert!(!named.contains(['\n', '\0', '\u{1b}']));
    let wrong =
        serde_json::json!({"metadata": {"name": "x"}, "spec": {"rules": nasty.repeat(1000)}})
            .to_string();
    let (_, reason) = invalid::<HttpRoute>(&wrong);
    assert!(
        reason.len() < 300 && !reason.contains(['\n', '\0', '\u{1b}']),
        "{reason}"
    );
}

#[test]
fn depth_length_and_number_are_bounded() {
    // Depth, in a field that is read, in one that is not, and in one that is passed over.
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let around = |inner: &str| format!(r#"{{"metadata":{{"name":"x"}},"spec":{{{inner}}}}}"#);
    assert_eq!(
        unsupported::<HttpRoute>(&around(&format!(r#""other":{deep}"#))),
        ["spec.other"]
    );
    assert_eq!(
        invalid::<HttpRoute>(&around(&format!(r#""hostnames":{deep}"#))).0,
        "spec.hostnames[0]"
    );
    assert!(
        unsupported::<HttpRoute>(&around(&format!(r#""rules":[{{"name":{deep}}}]"#))).is_empty()
    );
    // Number of items.
    let many = vec![r#"{"name":"a"}"#; 100_000].join(",");
    let (field, reason) = invalid::<HttpRoute>(&around(&format!(r#""parentRefs":[{many}]"#)));
    assert_eq!(
        (&*field, &*reason),
        ("spec.parentRefs", "more than 32 items")
    );
    // Number of unread fields.
    let unread: Vec<String> = (0..100_000).map(|n| format!(r#""f{n}":1"#)).collect();
    assert_eq!(
        unsupported::<HttpRoute>(&around(&unread.join(","))).len(),
        32
    );
    // Length.
    let long = around(&format!(r#""hostnames":["{}"]"#, "a".repeat(LARGEST)));
    let (field, reason) = invalid::<HttpRoute>(&long);
    assert_eq!(field, "");
    assert!(reason.ends_with("expected at most 4194304"), "{reason}");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let text = r#"{"metadata":{"name":"x"},"spec":{"hostnames":["a"],"hostnames":["b"]}}"#;
    let (field, reason) = invalid::<HttpRoute>(text);
    assert_eq!((&*field, &*reason), ("spec", "duplicate field `hostnames`"));
    assert!(lower::<HttpRoute>(r#"{"metadata":{"name":"x"},"spec":{},"spec":{}}"#).is_err());
}
