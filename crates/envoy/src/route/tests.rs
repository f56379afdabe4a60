use super::*;
use crate::fixtures::{
    broken, entry, path, share, status, to, with_header, with_method, with_query,
};

fn action_of(backends: &[Backend]) -> rt::RouteAction {
    match forward(backends) {
        rt::route::Action::Route(action) => action,
        other => panic!("{other:?}"),
    }
}

fn weights(backends: &[Backend]) -> Vec<(String, u32)> {
    match action_of(backends).cluster_specifier {
        Some(rt::route_action::ClusterSpecifier::WeightedClusters(weighted)) => weighted
            .clusters
            .into_iter()
            .map(|cluster| (cluster.name, cluster.weight.unwrap().value))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn prefixes_match_whole_elements() {
    for (prefix, expected) in [
        ("/", PathSpecifier::Prefix("/".to_owned())),
        (
            "/foo",
            PathSpecifier::PathSeparatedPrefix("/foo".to_owned()),
        ),
        (
            "/foo//",
            PathSpecifier::PathSeparatedPrefix("/foo".to_owned()),
        ),
    ] {
        assert_eq!(path_specifier(&PathMatch::Prefix(prefix.into())), expected);
    }
}

#[test]
fn exactly_the_root_is_two_slashes_too() {
    let paths = |text: &str, action: Action| -> Vec<PathSpecifier> {
        let encoded = encode(&entry("e", path(text), action), &Host::Any);
        let routes = encoded.routes.into_iter();
        routes
            .map(|route| route.r#match.unwrap().path_specifier.unwrap())
            .collect()
    };
    let both = ["/", "//"].map(|path| PathSpecifier::Path(path.to_owned()));
    assert_eq!(paths("/", to("a")), both);
    assert_eq!(paths("/", status(410)), both);
    assert_eq!(paths("/a", to("a")).len(), 1);
    assert_eq!(paths("/*", to("a")).len(), 1);
}

#[test]
fn shares_that_are_equal_to_one_cluster_need_no_weights() {
    let action = action_of(&[share(7, "a"), share(0, "b")]);
    let one = rt::route_action::ClusterSpecifier::Cluster("a".to_owned());
    assert_eq!(action.cluster_specifier, Some(one));
    assert_eq!(action.cluster_not_found_response_code, 0);
    assert_eq!(action.timeout, pb::seconds(0));
}

#[test]
fn broken_shares_become_one_that_answers_500() {
    let mixed = [broken(1), share(3, "a"), broken(2)];
    let action = action_of(&mixed);
    let code = rt::route_action::ClusterNotFoundResponseCode::InternalServerError;
    assert_eq!(action.cluster_not_found_response_code, code as i32);
    let expected = [("a".to_owned(), 3), (BROKEN_CLUSTER.to_owned(), 3)];
    assert_eq!(weights(&mixed), expected);
    assert_eq!(forward(&[broken(1)]), fixed(500));
    assert_eq!(forward(&[]), fixed(500));
}

#[test]
fn weights_fit_into_what_envoy_takes() {
    let backends = [share(u32::MAX, "a"), share(u32::MAX, "b"), share(1, "c")];
    let weights = weights(&backends);
    let sum: u64 = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
    assert!(sum <= u64::from(u32::MAX), "{sum}");
    assert_eq!(weights[0].1, weights[1].1);
    assert!(weights[0].1 > u32::MAX / 2 - 10);
    assert_eq!(weights[2].1, 1);
}

#[test]
fn all_conditions_stand_in_one_match() {
    let conditions = with_query(
        with_header(with_method(path("/a"), "POST"), "x-version", "2"),
        "q",
        "1",
    );
    let matching = matching(&conditions);
    let names: Vec<&str> = matching.headers.iter().map(|one| &*one.name).collect();
    assert_eq!(names, [":method", "x-version"]);
    assert_eq!(matching.query_parameters.len(), 1);
    assert_eq!(matching.query_parameters[0].name, "q");
}

#[test]
fn a_bad_action_answers_500_and_a_bad_match_is_left_out() {
    let bad_action = encode(&entry("a", path("/"), status(42)), &Host::Any);
    assert!(bad_action.refused.is_some());
    assert_eq!(bad_action.routes.len(), 1);
    assert_eq!(bad_action.routes[0].action, Some(fixed(500)));

    let bad_match = encode(&entry("a", path("x"), to("a")), &Host::Any);
    assert!(bad_match.refused.is_some());
    assert_eq!(bad_match.routes, []);
}
