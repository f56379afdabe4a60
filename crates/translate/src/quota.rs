//! Which routes are over the quota: the newest, so that what serves goes on.

use std::collections::BTreeSet;

use postern_refs::attach;
use postern_refs::objects::HttpRoute;
use postern_refs::{Key, Map};

use crate::frame::Frames;

/// The routes that name one of these Gateways, beyond the `most` oldest; of one age those whose
/// names come later. Routes that do not decode name nothing and do not count.
pub(crate) fn over(routes: &Map<HttpRoute>, frames: &Frames, most: Option<u32>) -> BTreeSet<Key> {
    let most = match most {
        Some(most) if (most as usize) < routes.len() => most as usize,
        _ => return BTreeSet::new(),
    };
    let mut counted: Vec<(i64, &Key)> = routes
        .iter()
        .filter(|(_, route)| attach::names_gateway(route, |key| frames.contains_key(key)))
        .map(|(key, route)| (route.meta.created, key))
        .collect();
    counted.sort_unstable();
    let newest = counted.into_iter().skip(most);
    newest.map(|(_, key)| key.clone()).collect()
}
