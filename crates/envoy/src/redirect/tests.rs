use super::*;
use crate::fixtures::{path, redirect};

fn actions(conditions: &Match, to: &Redirect, host: &str) -> Vec<rt::RedirectAction> {
    let routes = routes(conditions, to, &Host::parse(host));
    let actions = routes.into_iter().map(|route| match route.action {
        Some(rt::route::Action::Redirect(action)) => action,
        other => panic!("{other:?}"),
    });
    actions.collect()
}

#[test]
fn each_status_has_its_code() {
    for (status, code) in [
        (301, RedirectResponseCode::MovedPermanently),
        (302, RedirectResponseCode::Found),
        (303, RedirectResponseCode::SeeOther),
        (307, RedirectResponseCode::TemporaryRedirect),
        (308, RedirectResponseCode::PermanentRedirect),
    ] {
        let actions = actions(&path("/"), &redirect(status), "a.example");
        assert_eq!(actions.len(), 1);
        assert_eq!(actions[0].response_code, code as i32);
    }
}

#[test]
fn the_schemes_own_port_does_not_show() {
    let to = |scheme: &str, port, host: Option<&str>| Redirect {
        scheme: Some(scheme.into()),
        port: Some(port),
        host: host.map(Into::into),
        ..redirect(301)
    };
    let shown = |to: &Redirect, host: &str| -> Vec<(String, u32)> {
        let actions = actions(&path("/*"), to, host);
        let pairs = actions
            .into_iter()
            .map(|one| (one.host_redirect, one.port_redirect));
        pairs.collect()
    };
    let host = |name: &str, port| (name.to_owned(), port);
    let https = to("https", 443, None);
    assert_eq!(shown(&https, "a.example"), [host("a.example", 0)]);
    assert_eq!(shown(&https, "*.example"), [host("", 443), host("", 0)]);
    let named = to("https", 443, Some("b.example"));
    assert_eq!(shown(&named, "*"), [host("b.example", 0)]);
    let other = to("https", 8443, None);
    assert_eq!(shown(&other, "a.example"), [host("", 8443)]);
    assert_eq!(shown(&to("http", 443, None), "*"), [host("", 443)]);
}

#[test]
fn an_empty_prefix_needs_two_routes_that_exclude_each_other() {
    let to = Redirect {
        path: Some(PathRewrite::Prefix("/".into())),
        ..redirect(302)
    };
    let routes = routes(&path("/foo*"), &to, &Host::Any);
    let specifiers: Vec<_> = routes
        .into_iter()
        .filter_map(|route| route.r#match?.path_specifier)
        .collect();
    let expected = [
        PathSpecifier::Path("/foo".to_owned()),
        PathSpecifier::Prefix("/foo/".to_owned()),
    ];
    assert_eq!(specifiers, expected);
}
