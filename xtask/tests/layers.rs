//! What a room may import: the table in ARCHITECTURE.md, compared with `cargo metadata`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Outside crates that are allowed in some rooms only.
const GUARDED: [&str; 8] = [
    "envoy-types",
    "k8s-openapi",
    "kube",
    "prost",
    "schemars",
    "tonic",
    "tokio",
    "prost-reflect",
];

fn table(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let section = text
        .split("## What a room may import")
        .nth(1)
        .expect("the section is there");
    let section = section.split("\n**").next().unwrap();
    section
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix('|')?.split('|').collect();
            let names = |cell: &str| -> BTreeSet<String> {
                cell.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(ToOwned::to_owned)
                    .collect()
            };
            let room = names(cells[0]).into_iter().next()?;
            Some((room, names(cells[1])))
        })
        .collect()
}

#[test]
fn rooms_import_only_what_the_architecture_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let allowed = table(&std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let rooms: BTreeSet<String> = metadata
        .packages
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    assert_eq!(
        rooms,
        allowed.keys().cloned().collect(),
        "every room stands in the table"
    );
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal)
        {
            let name = &dependency.name;
            let guarded = rooms.contains(name) || GUARDED.contains(&name.as_str());
            if guarded && !allowed[package.name.as_str()].contains(name) {
                wrong.push(format!("{} imports {name}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "not in ARCHITECTURE.md: {wrong:#?}");
}

#[test]
fn no_hand_written_file_is_over_700_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let listed = std::process::Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
            "*.go",
            "*.md",
            "*.sh",
        ])
        .current_dir(root)
        .output()
        .unwrap();
    let long: Vec<String> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .filter_map(|name| {
            let lines = std::fs::read_to_string(root.join(name))
                .ok()?
                .lines()
                .count();
            (lines > 700).then(|| format!("{name}: {lines}"))
        })
        .collect();
    assert!(long.is_empty(), "over 700 lines: {long:#?}");
}
