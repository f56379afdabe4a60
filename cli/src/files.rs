//! All paths of a command line as one Snapshot.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use postern_refs::objects::Namespace;
use postern_refs::{FieldPath, Key, Kind, Map, Object, Snapshot};
use postern_watch::dir::{self, FileProblem, Severity};

/// What the files hold.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The objects of all files.
    pub snapshot: Snapshot,
    /// What is wrong with the files; paths are as a person would name them.
    pub problems: Vec<FileProblem>,
}

/// Reads directories and files. An object may stand in several of them if it is the same in all;
/// of different ones the first counts, and that is an error of the later one.
///
/// # Errors
/// If a path cannot be read at all.
pub fn load(paths: &[PathBuf]) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::default();
    for path in paths {
        look(path)?;
        let (snapshot, problems) = dir::read(path);
        loaded
            .problems
            .extend(problems.into_iter().map(|mut problem| {
                problem.path = named(path, &problem.path);
                problem
            }));
        loaded.add(path, &snapshot);
    }
    Ok(loaded)
}

fn look(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        path != Path::new("-"),
        "the standard input is not read; name a file or a directory"
    );
    let unreadable = || format!("cannot read {}", path.display());
    let metadata = fs::metadata(path).with_context(unreadable)?;
    if metadata.is_dir() {
        fs::read_dir(path).with_context(unreadable)?;
    } else if metadata.is_file() {
        fs::File::open(path).with_context(unreadable)?;
    } else {
        anyhow::bail!("{} is neither a file nor a directory", path.display());
    }
    Ok(())
}

/// A path below a root, as a person who named the root would name it.
fn named(root: &Path, below: &Path) -> PathBuf {
    if root == below || root.is_file() {
        root.into()
    } else {
        root.join(below)
    }
}

impl Loaded {
    fn add(&mut self, path: &Path, more: &Snapshot) {
        let problems = &mut self.problems;
        let mut clash = |kind: Kind, key: &Key| {
            problems.push(FileProblem {
                severity: Severity::Error,
                path: path.into(),
                line: None,
                object: Some((kind, key.to_string())),
                field: FieldPath::default(),
                message: "stands in a path before this one too, with another content, which counts"
                    .into(),
                advice: "remove one of the two".into(),
            });
        };
        let Snapshot {
            gateway_classes,
            gateways,
            http_routes,
            services,
            endpoint_slices,
            secrets,
            reference_grants,
            namespaces,
            instances,
            tenant_grants,
        } = &mut self.snapshot;
        merge(
            gateway_classes,
            &more.gateway_classes,
            Kind::GatewayClass,
            &mut clash,
        );
        merge(gateways, &more.gateways, Kind::Gateway, &mut clash);
        merge(http_routes, &more.http_routes, Kind::HttpRoute, &mut clash);
        merge(services, &more.services, Kind::Service, &mut clash);
        merge(
            endpoint_slices,
            &more.endpoint_slices,
            Kind::EndpointSlice,
            &mut clash,
        );
        merge(secrets, &more.secrets, Kind::Secret, &mut clash);
        merge(
            reference_grants,
            &more.reference_grants,
            Kind::ReferenceGrant,
            &mut clash,
        );
        merge(
            instances,
            &more.instances,
            Kind::GatewayInstance,
            &mut clash,
        );
        merge(
            tenant_grants,
            &more.tenant_grants,
            Kind::TenantGrant,
            &mut clash,
        );
        // A Namespace that is there because objects stand in it gives way to one that is written.
        let mut written = more.namespaces.clone();
        let known = Arc::make_mut(namespaces);
        Arc::make_mut(&mut written)
            .retain(|key, object| !(is_implied(object) && known.contains_key(key)));
        known.retain(|key, object| !(is_implied(object) && written.contains_key(key)));
        merge(namespaces, &written, Kind::Namespace, &mut clash);
    }
}

/// Whether this may be a Namespace that no file describes: it has the one label that the API server
/// gives to each.
pub fn is_implied(namespace: &Object<Namespace>) -> bool {
    namespace
        .valid()
        .is_some_and(|namespace| namespace.labels.len() <= 1)
}

fn merge<T: PartialEq>(
    into: &mut Map<T>,
    from: &Map<T>,
    kind: Kind,
    clash: &mut impl FnMut(Kind, &Key),
) {
    let into = Arc::make_mut(into);
    for (key, object) in from.iter() {
        match into.get(key) {
            None => {
                into.insert(key.clone(), object.clone());
            }
            Some(known) if known == object => {}
            Some(_) => clash(kind, key),
        }
    }
}
