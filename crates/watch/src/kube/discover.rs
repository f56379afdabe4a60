//! Which of our kinds an API server serves, and in which version.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use postern_refs::Kind;

use crate::kinds::{built_in_plural, versions};

/// The kinds that are served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovered {
    /// By kind, the newest version that both sides know.
    pub resources: BTreeMap<Kind, ApiResource>,
    /// Kinds that are not served, or in no version that we know.
    pub absent: BTreeSet<Kind>,
}

/// Asks an API server about some kinds. Kubernetes' own are taken as given.
///
/// # Errors
/// If it does not answer: then nothing is known. A group that it does not serve is no error.
pub async fn discover(client: &Client, kinds: &BTreeSet<Kind>) -> Result<Discovered, kube::Error> {
    let mut found = Discovered::default();
    let mut open: BTreeSet<Kind> = BTreeSet::new();
    for kind in kinds {
        match built_in_plural(*kind) {
            Some(plural) => {
                found
                    .resources
                    .insert(*kind, resource(*kind, versions(*kind)[0], plural));
            }
            None => {
                open.insert(*kind);
            }
        }
    }
    if open.is_empty() {
        return Ok(found);
    }
    let groups = client.list_api_groups().await?;
    let served: BTreeSet<String> = groups
        .groups
        .into_iter()
        .flat_map(|group| group.versions)
        .map(|version| version.group_version)
        .collect();
    let mut lists = BTreeMap::new();
    for kind in open {
        for version in versions(kind) {
            let group_version = format!("{}/{version}", kind.group());
            if !served.contains(&group_version) {
                continue;
            }
            if !lists.contains_key(&group_version) {
                let list = client.list_api_group_resources(&group_version).await?;
                lists.insert(group_version.clone(), list.resources);
            }
            // Subresources stand in the same list, as `gateways/status`.
            let known = lists[&group_version]
                .iter()
                .find(|resource| resource.kind == kind.name() && !resource.name.contains('/'));
            if let Some(known) = known {
                found
                    .resources
                    .insert(kind, resource(kind, version, &known.name));
                break;
            }
        }
        if !found.resources.contains_key(&kind) {
            found.absent.insert(kind);
        }
    }
    Ok(found)
}

fn resource(kind: Kind, version: &str, plural: &str) -> ApiResource {
    let gvk = GroupVersionKind::gvk(kind.group(), version, kind.name());
    ApiResource::from_gvk_with_plural(&gvk, plural)
}
