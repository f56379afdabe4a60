use super::*;
use crate::fixtures::{entry, path, share, status, to, with_header, with_method, with_query};

fn refused(matcher: postern_model::Match, action: Action) -> String {
    let entry = entry("a", matcher, action);
    match check(&entry) {
        Ok(()) => String::new(),
        Err(why) => why.to_string(),
    }
}

#[test]
fn good_entries_pass() {
    for matcher in [
        path("/"),
        path("/*"),
        path("/foo/*"),
        path("/%2e%2E/;v=1/{x}\"'`$\\"),
        with_method(path("/"), "GET"),
        with_header(path("/"), "x-a", "any \"text\" %REQ(:path)% \t é"),
        with_header(path("/"), "x-a", ""),
        with_query(path("/"), "q[]", "%00%20+\"';=?/"),
        with_query(path("/"), "q", ""),
    ] {
        assert_eq!(refused(matcher, to("a/b/80")), "");
    }
}

#[test]
fn matches_that_no_request_can_meet_are_told() {
    for (matcher, word) in [
        (path("foo"), "start with /"),
        (path(""), "start with /"),
        (path("*"), "start with /"),
        (path("/a?b"), "'?'"),
        (path("/a#b"), "'#'"),
        (path("/a b"), "' '"),
        (path("/a\0"), "'\\0'"),
        (path("/a\nb*"), "'\\n'"),
        (path("/é"), "'é'"),
        (with_method(path("/"), "GET /x"), "no HTTP token"),
        (with_method(path("/"), ""), "no HTTP token"),
        (with_header(path("/"), ":path", "/x"), "no HTTP token"),
        (with_header(path("/"), "x a", "b"), "no HTTP token"),
        (with_header(path("/"), "", "b"), "no HTTP token"),
        (
            with_header(path("/"), "a", "b\r\nc: d"),
            "control character",
        ),
        (with_header(path("/"), "a", "b\0"), "control character"),
        (with_query(path("/"), "a=b", "c"), "'='"),
        (with_query(path("/"), "a", "b c"), "' '"),
        (with_query(path("/"), "a", "b&c"), "'&'"),
        (with_query(path("/"), "a", "\0"), "'\\0'"),
        (with_query(path("/"), "é", "b"), "'é'"),
        (with_query(path("/"), "", "b"), "1 to 1024 bytes"),
        (
            with_query(path("/"), &"x".repeat(1025), "b"),
            "1 to 1024 bytes",
        ),
    ] {
        let why = refused(matcher, to("a/b/80"));
        assert!(why.contains(word), "{why:?} has no {word:?}");
        assert!(!why.chars().any(char::is_control), "{why:?}");
        assert!(why.len() < 300, "{why:?}");
    }
}

#[test]
fn actions_that_envoy_would_refuse_are_told() {
    let redirect = |change: fn(&mut Redirect)| {
        let mut redirect = crate::fixtures::redirect(302);
        change(&mut redirect);
        Action::Redirect(redirect)
    };
    for (action, word) in [
        (Action::Forward(Vec::new()), "weight above 0"),
        (Action::Forward(vec![share(0, "a")]), "weight above 0"),
        (to(""), "1 to 1024 bytes"),
        (to("a\nb"), "control character"),
        (to(BROKEN_CLUSTER), "stands for no cluster"),
        (to("*"), "meaning of its own"),
        (to("xdstp://a/b"), "meaning of its own"),
        (status(99), "between 200 and 599"),
        (status(100), "between 200 and 599"),
        (status(600), "between 200 and 599"),
        (redirect(|to| to.status = 300), "redirect status 300"),
        (
            redirect(|to| to.scheme = Some("javascript".into())),
            "redirect scheme",
        ),
        (
            redirect(|to| to.host = Some("a\r\nb".into())),
            "redirect host",
        ),
        (
            redirect(|to| to.host = Some("a.example/x".into())),
            "redirect host",
        ),
        (
            redirect(|to| to.host = Some("user@a.example".into())),
            "redirect host",
        ),
        (redirect(|to| to.host = Some("".into())), "redirect host"),
        (redirect(|to| to.port = Some(0)), "port is 0"),
        (
            redirect(|to| to.path = Some(PathRewrite::Full("".into()))),
            "start with /",
        ),
        (
            redirect(|to| to.path = Some(PathRewrite::Full("//x y".into()))),
            "' '",
        ),
        (
            redirect(|to| to.path = Some(PathRewrite::Full("/a?b".into()))),
            "'?'",
        ),
        (
            redirect(|to| to.path = Some(PathRewrite::Prefix("x".into()))),
            "start with /",
        ),
        (
            redirect(|to| to.path = Some(PathRewrite::Prefix("/\r\n".into()))),
            "'\\r'",
        ),
    ] {
        let why = refused(path("/*"), action);
        assert!(why.contains(word), "{why:?} has no {word:?}");
        assert!(!why.chars().any(char::is_control), "{why:?}");
    }
    let prefix = redirect(|to| to.path = Some(PathRewrite::Prefix("/x".into())));
    assert!(refused(path("/a"), prefix).contains("only where a prefix"));
}

#[test]
fn a_name_with_a_star_is_no_host_name() {
    for good in [
        "a.example",
        "*.example",
        "*",
        "xn--e1a.example",
        "a_b",
        "10.0.0.1",
    ] {
        assert_eq!(host(&Host::parse(good)), Ok(()), "{good}");
    }
    let long = format!("{}.example", "a".repeat(253));
    for bad in [
        "*foo", "foo*", "*.*.a", "a b", "a\n", "a\0", "a:80", "a..b", ".a", "é", &long,
    ] {
        assert!(host(&Host::parse(bad)).is_err(), "{bad}");
    }
    assert!(host(&Host::Exact("A.example".into())).is_err());
    assert!(host(&Host::Exact("*".into())).is_err());
}

#[test]
fn addresses_that_lead_back_are_no_endpoints() {
    let at = |address: &str, loopback| endpoint(address.parse().unwrap(), 80, loopback);
    for bad in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::ffff:0.0.0.0",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fe80::1",
        "febf::1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "ff02::1",
    ] {
        assert!(at(bad, false).is_err(), "{bad}");
    }
    for good in [
        "10.0.0.1",
        "192.168.1.1",
        "8.8.8.8",
        "fd00::1",
        "2001:db8::1",
        "::ffff:10.0.0.1",
    ] {
        assert_eq!(at(good, false), Ok(()), "{good}");
    }
    assert_eq!(at("127.0.0.1", true), Ok(()));
    assert_eq!(at("::1", true), Ok(()));
    assert!(at("169.254.169.254", true).is_err());
    assert!(endpoint("10.0.0.1".parse().unwrap(), 0, true).is_err());
}
