use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::keys::authority::{Bundle, plan};
use crate::keys::store::{decode, encode};
use crate::keys::testing::{START, at, handshake, settle, short, subject};

async fn save_all(store: &DirectoryStore, bundle: &Bundle) {
    for part in Part::of(&subject()) {
        let contents = encode(bundle, &part).unwrap();
        store.save(&part, &contents, None).await.unwrap();
    }
}

async fn load(store: &DirectoryStore) -> Stored<()> {
    store.load(&Part::of(&subject())).await.unwrap()
}

fn files(root: &Path) -> Vec<PathBuf> {
    let parts = fs::read_dir(root).unwrap();
    let mut files: Vec<PathBuf> = parts
        .flat_map(|part| fs::read_dir(part.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_is_saved_is_loaded_and_nobody_else_can_read_it() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("state/team-a");
    let store = DirectoryStore::new(&root);
    assert!(load(&store).await.is_empty());
    let bundle = settle(None, START, &short()).bundle;
    save_all(&store, &bundle).await;
    let (read, warnings) = decode(&load(&store).await, &subject());
    assert_eq!((read, warnings), (bundle, vec![]));

    let tls = store.path(&Part::Envoy("fast".into()));
    assert_eq!(tls, root.join("envoy-fast"));
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        assert!(tls.join(name).is_file());
    }
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    for file in files(&root) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        assert!(file.symlink_metadata().unwrap().is_file());
    }
    assert_eq!(mode(&root), 0o700);
}

#[tokio::test]
async fn a_renewal_replaces_the_certificate_alone_by_a_rename() {
    let home = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(home.path());
    let bundle = settle(None, START, &short()).bundle;
    save_all(&store, &bundle).await;
    let inodes = || -> BTreeSet<(PathBuf, u64)> {
        let inode = |file: &PathBuf| fs::symlink_metadata(file).unwrap().ino();
        files(home.path())
            .iter()
            .map(|file| (file.clone(), inode(file)))
            .collect()
    };
    let before = inodes();
    save_all(&store, &bundle).await;
    assert_eq!(inodes(), before, "equal contents are not written");

    let keep = store.keeps_leaf_keys();
    assert!(keep);
    let renewed = plan(Some(&bundle), &subject(), at(START + 80), &short(), keep).unwrap();
    save_all(&store, &renewed.bundle).await;
    let changed: BTreeSet<PathBuf> = inodes()
        .difference(&before)
        .map(|(file, _)| file.clone())
        .collect();
    let certificate = |part: &str| home.path().join(part).join("tls.crt");
    let all = ["envoy-default", "envoy-fast", "xds-server"].map(certificate);
    assert_eq!(changed, BTreeSet::from(all));
}

/// Stops after each file that a change of authorities writes: nothing is lost, whatever is there.
#[tokio::test]
async fn stopping_between_two_files_loses_nothing() {
    let lifetimes = short();
    let first = settle(None, START, &lifetimes).bundle;
    let first = settle(Some(first), START + 750, &lifetimes).bundle;
    let both = settle(Some(first.clone()), START + 800, &lifetimes).bundle;
    let moved = settle(Some(both.clone()), START + 860, &lifetimes).bundle;
    let last = settle(Some(moved.clone()), START + 920, &lifetimes).bundle;
    let steps = [
        (&first, &both, START + 800),
        (&both, &moved, START + 860),
        (&moved, &last, START + 920),
    ];
    for (old, new, t) in steps {
        let (old_files, new_files) = (
            encode(old, &Part::Authority).unwrap(),
            encode(new, &Part::Authority).unwrap(),
        );
        for stop in 0..=FILES.len() {
            let mut mixed = old_files.clone();
            for file in &FILES[..stop] {
                if let Some(bytes) = new_files.0.get(*file) {
                    mixed.0.insert((*file).to_owned(), bytes.clone());
                }
            }
            let mut stored = Stored::new();
            stored.insert(Part::Authority, (mixed, ()));
            for part in [
                Part::Public,
                Part::Server,
                Part::Envoy("fast".into()),
                Part::Envoy("default".into()),
            ] {
                stored.insert(part.clone(), (encode(old, &part).unwrap(), ()));
            }
            let (read, _) = decode(&stored, &subject());
            let known: BTreeSet<&str> = read.authorities.iter().map(|a| &*a.serial).collect();
            for authority in old
                .authorities
                .iter()
                .filter(|a| new.authorities.iter().any(|n| n.serial == a.serial))
            {
                assert!(known.contains(&*authority.serial), "{t} {stop}");
            }
            let whole = settle(Some(read), t, &lifetimes).bundle;
            // Envoys that have not seen anything yet are let in, and trust the server.
            handshake(&whole, &old.envoys["fast"], "fast", t).unwrap();
        }
    }
}

#[tokio::test]
async fn links_are_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let (root, outside) = (home.path().join("root"), home.path().join("outside"));
    fs::create_dir_all(&outside).unwrap();
    let store = DirectoryStore::new(&root);
    let bundle = settle(None, START, &short()).bundle;
    save_all(&store, &bundle).await;

    // A link in place of a file, and of the file that is renamed.
    let precious = outside.join("precious");
    fs::write(&precious, "precious").unwrap();
    let directory = store.path(&Part::Server);
    fs::remove_file(directory.join("tls.key")).unwrap();
    symlink(&precious, directory.join("tls.key")).unwrap();
    symlink(&precious, directory.join(".new")).unwrap();
    let stored = load(&store).await;
    assert!(!stored[&Part::Server].0.0.contains_key("tls.key"));
    save_all(&store, &bundle).await;
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(
        directory
            .join("tls.key")
            .symlink_metadata()
            .unwrap()
            .is_file()
    );
    assert!(!directory.join(".new").exists());

    // A link in place of a directory is an error, which names it.
    fs::remove_dir_all(&directory).unwrap();
    symlink(&outside, &directory).unwrap();
    let error = store.load(&[Part::Server]).await.unwrap_err().to_string();
    assert!(error.contains("xds-server is not a directory"), "{error}");
    let contents = encode(&bundle, &Part::Server).unwrap();
    assert!(store.save(&Part::Server, &contents, None).await.is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn odd_files_are_no_contents() {
    let home = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(home.path());
    save_all(&store, &settle(None, START, &short()).bundle).await;
    let directory = store.path(&Part::Server);
    fs::remove_file(directory.join("tls.crt")).unwrap();
    fs::create_dir(directory.join("tls.crt")).unwrap();
    fs::write(directory.join("tls.key"), vec![b'x'; 10 * MAX_PEM]).unwrap();
    fs::write(directory.join("readme"), "mine").unwrap();
    let stored = load(&store).await;
    let data = &stored[&Part::Server].0.0;
    assert_eq!(data.keys().collect::<Vec<_>>(), ["ca.crt", "tls.key"]);
    assert_eq!(data["tls.key"].len(), MAX_PEM + 1);
    let (read, warnings) = decode(&stored, &subject());
    assert!(read.server.is_none() && !warnings.is_empty());
}
