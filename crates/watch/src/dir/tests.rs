use std::fs;

use postern_refs::Key;
use tempfile::TempDir;

use super::*;

fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    dir
}

fn route(name: &str, hostname: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: t}}\nspec: {{hostnames: [{hostname}]}}\n"
    )
}

fn hostname(snapshot: &Snapshot, name: &str) -> Option<String> {
    let object = snapshot.http_routes.get(&Key::new("t", name))?;
    Some(object.valid()?.hostnames.first()?.to_string())
}

fn lines(problems: &[FileProblem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_directory_is_read_whole() {
    let dir = dir(&[
        ("a.yaml", &route("one", "a.example")),
        (
            "b.json",
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"c","namespace":"t"},"type":"kubernetes.io/tls","stringData":{"tls.crt":"C","tls.key":"K"}}"#,
        ),
        (
            "c.yaml",
            "apiVersion: postern.dev/v1alpha1\nkind: TenantGrant\nmetadata: {name: g}\nspec: {namespaces: {names: [t]}, hostnames: ['*']}\n---\napiVersion: postern.dev/v1alpha1\nkind: GatewayInstance\nmetadata: {name: default, namespace: t}\nspec: {}\n",
        ),
        (
            "d.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: t, labels: {a: b}}\n",
        ),
        (
            "e.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n",
        ),
    ]);
    let (snapshot, problems) = read(dir.path());
    assert_eq!(lines(&problems), [""; 0]);
    assert_eq!(hostname(&snapshot, "one").as_deref(), Some("a.example"));
    assert!(
        snapshot.secrets[&Key::new("t", "c")]
            .valid()
            .expect("valid")
            .key
            .is_some()
    );
    assert!(snapshot.tenant_grants.contains_key(&Key::new("", "g")));
    assert!(snapshot.instances.contains_key(&Key::new("t", "default")));
    assert!(snapshot.services.contains_key(&Key::new("default", "s")));
    let labels = |name: &str| {
        let namespace = snapshot.namespaces[&Key::new("", name)]
            .valid()
            .expect("valid")
            .clone();
        namespace
            .labels
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(labels("t"), ["a=b", "kubernetes.io/metadata.name=t"]);
    assert_eq!(labels("default"), ["kubernetes.io/metadata.name=default"]);
}

#[test]
fn the_last_good_content_of_a_broken_file_goes_on() {
    let dir = dir(&[
        ("a.yaml", &route("one", "a.example")),
        ("b.yaml", &route("two", "b.example")),
    ]);
    let file = dir.path().join("a.yaml");
    let mut reader = Reader::new(dir.path());
    reader.look(false);
    let first = reader.snapshot();
    assert_eq!(first.http_routes[&Key::new("t", "one")].meta.generation, 1);

    for broken in [
        "a: [\n",
        "kind: HTTPRoute\n",
        &route("one", "[]"),
        &format!("{}---\n- 1\n", route("one", "x.example")),
    ] {
        fs::write(&file, broken).expect("a file");
        reader.look(false);
        assert_eq!(
            reader.problems().len(),
            1,
            "{:?}",
            lines(&reader.problems())
        );
        assert!(Arc::ptr_eq(&first, &reader.snapshot()));
    }
    // The neighbour still changes.
    fs::write(dir.path().join("b.yaml"), route("two", "c.example")).expect("a file");
    reader.look(false);
    let second = reader.snapshot();
    assert_eq!(hostname(&second, "one").as_deref(), Some("a.example"));
    assert_eq!(hostname(&second, "two").as_deref(), Some("c.example"));
    let key = |name: &str| Key::new("t", name);
    assert!(Arc::ptr_eq(
        &first.http_routes[&key("one")],
        &second.http_routes[&key("one")]
    ));
    assert_eq!(second.http_routes[&key("two")].meta.generation, 2);
    assert_eq!(
        second.http_routes[&key("two")].meta.uid,
        first.http_routes[&key("two")].meta.uid
    );

    fs::write(&file, route("one", "d.example")).expect("a file");
    reader.look(false);
    assert_eq!(lines(&reader.problems()), [""; 0]);
    assert_eq!(
        hostname(&reader.snapshot(), "one").as_deref(),
        Some("d.example")
    );

    fs::remove_file(&file).expect("removed");
    reader.look(false);
    assert_eq!(hostname(&reader.snapshot(), "one"), None);
    assert_eq!(
        hostname(&reader.snapshot(), "two").as_deref(),
        Some("c.example")
    );
}

#[test]
fn a_change_counts_once_it_is_the_same_at_two_looks() {
    let dir = dir(&[("a.yaml", &route("one", "a.example"))]);
    let file = dir.path().join("a.yaml");
    let mut reader = Reader::new(dir.path());
    reader.look(false);
    let first = reader.snapshot();

    // An editor truncates, then writes.
    fs::write(&file, "").expect("a file");
    reader.look(true);
    fs::write(&file, route("one", "longer.example")).expect("a file");
    reader.look(true);
    assert!(Arc::ptr_eq(&first, &reader.snapshot()));
    reader.look(true);
    assert_eq!(
        hostname(&reader.snapshot(), "one").as_deref(),
        Some("longer.example")
    );

    // Another removes, then creates.
    let second = reader.snapshot();
    fs::remove_file(&file).expect("removed");
    reader.look(true);
    assert!(Arc::ptr_eq(&second, &reader.snapshot()));
    fs::write(&file, route("one", "longer.example")).expect("a file");
    reader.look(true);
    reader.look(true);
    assert!(Arc::ptr_eq(&second, &reader.snapshot()));

    fs::remove_file(&file).expect("removed");
    reader.look(true);
    reader.look(true);
    assert_eq!(hostname(&reader.snapshot(), "one"), None);
}

#[test]
fn a_write_that_leaves_time_and_size_is_seen() {
    let dir = dir(&[("a.yaml", &route("one", "a.example"))]);
    let file = dir.path().join("a.yaml");
    let mut reader = Reader::new(dir.path());
    reader.look(false);
    let time = fs::metadata(&file)
        .expect("metadata")
        .modified()
        .expect("a time");
    fs::write(&file, route("one", "b.example")).expect("a file");
    fs::File::options()
        .write(true)
        .open(&file)
        .expect("opened")
        .set_modified(time)
        .expect("set");
    reader.look(true);
    assert_eq!(
        hostname(&reader.snapshot(), "one").as_deref(),
        Some("b.example")
    );
}

#[test]
fn an_object_that_stands_twice_names_both_files() {
    let dir = dir(&[
        ("a.yaml", &route("one", "a.example")),
        ("b.yaml", &format!("# x\n{}", route("one", "b.example"))),
    ]);
    let mut reader = Reader::new(dir.path());
    reader.look(false);
    assert_eq!(
        hostname(&reader.snapshot(), "one").as_deref(),
        Some("a.example")
    );
    assert_eq!(
        lines(&reader.problems()),
        ["b.yaml:2: HTTPRoute t/one: stands in a.yaml:1 too, which counts; remove one of the two"]
    );
    fs::remove_file(dir.path().join("a.yaml")).expect("removed");
    reader.look(false);
    assert_eq!(
        hostname(&reader.snapshot(), "one").as_deref(),
        Some("b.example")
    );
    assert!(reader.problems().is_empty());
}

#[test]
fn what_is_not_read_is_said_once() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n";
    let policy = "apiVersion: postern.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: a}\n";
    let dir = dir(&[
        ("a.yaml", deployment),
        ("b.yaml", &format!("{deployment}---\n{policy}")),
        ("c.yaml", policy),
    ]);
    let (_, problems) = read(dir.path());
    assert_eq!(
        problems.iter().map(|problem| (problem.severity, problem.to_string())).collect::<Vec<_>>(),
        [
            (Severity::Note, "a.yaml:2: apps/v1 Deployment is not read".into()),
            (Severity::Warning, "b.yaml:6: postern.dev/v1alpha1 TrafficPolicy is not read; check kind and apiVersion, or remove it".into()),
        ]
    );
}

#[test]
fn large_and_foreign_bytes_are_problems_of_their_file() {
    let dir = dir(&[("good.yaml", &route("one", "a.example"))]);
    let sparse = fs::File::create(dir.path().join("large.yaml")).expect("a file");
    sparse.set_len(scan::LARGEST + 1).expect("grown");
    fs::write(dir.path().join("latin.yaml"), b"a: \xff\n").expect("a file");
    let (snapshot, problems) = read(dir.path());
    assert_eq!(
        lines(&problems),
        [
            "large.yaml: larger than 8388608 bytes; split the file",
            "latin.yaml: no UTF-8 at byte 3; save it as UTF-8"
        ]
    );
    assert_eq!(snapshot.http_routes.len(), 1);
}

#[test]
fn neither_order_nor_names_of_files_matter() {
    let (one, two) = (route("one", "a.example"), route("two", "b.example"));
    let first = read(dir(&[("a.yaml", &one), ("b.yaml", &two)]).path()).0;
    let second = read(dir(&[("z.yaml", &format!("{two}---\n{one}"))]).path()).0;
    assert_eq!(first.http_routes, second.http_routes);
    assert_eq!(first.namespaces, second.namespaces);
}

#[tokio::test]
async fn a_directory_is_followed() {
    let dir = dir(&[("a.yaml", &route("one", "a.example"))]);
    let source = DirSource::spawn(dir.path());
    let mut snapshots = source.snapshots();
    let mut problems = source.problems();
    let served = |expected: &'static str| {
        move |snapshot: &Option<Arc<Snapshot>>| {
            snapshot
                .as_ref()
                .is_some_and(|snapshot| hostname(snapshot, "one").as_deref() == Some(expected))
        }
    };
    snapshots
        .wait_for(served("a.example"))
        .await
        .expect("the source lives");
    fs::write(dir.path().join("a.yaml"), route("one", "b.example")).expect("a file");
    snapshots
        .wait_for(served("b.example"))
        .await
        .expect("the source lives");
    fs::write(dir.path().join("a.yaml"), "a: [").expect("a file");
    problems
        .wait_for(|problems| problems.len() == 1)
        .await
        .expect("the source lives");
    assert!(served("b.example")(&snapshots.borrow_and_update()));
    fs::write(dir.path().join("a.yaml"), route("one", "c.example")).expect("a file");
    snapshots
        .wait_for(served("c.example"))
        .await
        .expect("the source lives");
    assert!(problems.borrow_and_update().is_empty());
    drop(source);
    assert!(snapshots.changed().await.is_err());
}
