//! The program, run: what it answers for directories, its exit codes, and how it treats terminals.
//!
//! `goldens/<case>/in` is read, `out.txt` and `out.json` are the answers. `UPDATE_GOLDENS=1`
//! writes them anew; read the diff.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-postern"));
    command.current_dir(directory).env_remove("NO_COLOR");
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    program(directory).args(arguments).output().unwrap()
}

fn check(case: &str, arguments: &[&str]) -> Output {
    let arguments = [&["check", "-f", "in"], arguments].concat();
    run(&goldens().join(case), &arguments)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The condition of an object of the report.
fn condition<'a>(report: &'a Value, name: &str, kind: &str) -> &'a Value {
    let objects = report["objects"].as_array().unwrap();
    let object = objects
        .iter()
        .find(|object| object["name"] == name)
        .unwrap();
    let conditions = object["conditions"].as_array().unwrap();
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap()
}

#[test]
fn answers_are_as_in_the_goldens() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = fs::read_dir(goldens())
        .unwrap()
        .map(|case| case.unwrap().file_name())
        .collect();
    cases.sort();
    assert!(cases.len() >= 15, "goldens are missing");
    for case in cases {
        let case = case.to_str().unwrap();
        for format in ["text", "json"] {
            let answer = check(case, &["-o", format]);
            assert!(answer.stderr.is_empty(), "{case}: {}", text(&answer.stderr));
            let answer = text(&answer.stdout);
            let suffix = if format == "text" { "txt" } else { format };
            let path = goldens().join(case).join(format!("out.{suffix}"));
            let known = fs::read_to_string(&path).unwrap_or_default();
            if update {
                fs::write(&path, answer).unwrap();
            } else if known != answer {
                wrong.push(format!("{}:\n{answer}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "other than the goldens:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn exit_codes_tell_what_the_report_tells() {
    for (case, code) in [
        ("good", 0),
        ("nothing", 0),
        ("other-class", 0),
        ("admin-mistakes", 1),
        ("broken-yaml", 1),
        ("cross-namespace", 1),
        ("duplicate-host", 1),
        ("exposure-not-granted", 1),
        ("hostile", 1),
        ("loopback", 1),
        ("misspelt-class", 1),
        ("no-grant", 1),
        ("no-instance", 1),
        ("unknown-backend", 1),
        ("unsupported-field", 1),
    ] {
        let answer = check(case, &["-o", "json"]);
        assert_eq!(answer.status.code(), Some(code), "{case}");
        assert_eq!(json(&answer)["ok"], code == 0, "{case}");
    }
}

#[test]
fn a_command_that_cannot_be_carried_out_is_one_line_and_code_2() {
    let empty = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["check"],
        &["check", "-f", "nowhere"],
        &["check", "-f", "-"],
        &["check", "-f", "/dev/null"],
        &["check", "-f", ".", "-o", "xml"],
        &["check", "-f", ".", "--colour"],
        &["check", "-f", "no\u{1b}[31m\nwhere"],
        &["explain"],
    ] {
        let answer = run(empty.path(), arguments);
        assert_eq!(answer.status.code(), Some(2), "{arguments:?}");
        assert!(answer.stdout.is_empty(), "{arguments:?}");
        let said = text(&answer.stderr);
        assert!(said.starts_with("error: "), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
    let help = run(empty.path(), &["check", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Exit codes:"));
}

#[test]
fn yaml_says_what_json_says() {
    for case in ["good", "no-grant", "unknown-backend", "broken-yaml"] {
        let answer = check(case, &["-o", "yaml"]);
        let yaml: Value = serde_saphyr::from_str(&text(&answer.stdout)).unwrap();
        assert_eq!(yaml, json(&check(case, &["-o", "json"])), "{case}");
    }
}

#[test]
fn hostile_text_reaches_no_terminal() {
    for format in ["text", "json", "yaml"] {
        let answer = check("hostile", &["-o", format, "--color", "never"]);
        let text = text(&answer.stdout);
        let bad = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
        assert_eq!(text.chars().find(bad), None, "{format}");
        assert!(text.contains("31m"), "{format}: the text itself is told");
    }
    // No line of an object's text poses as one of ours, and no name as two columns.
    let table = text(&check("hostile", &[]).stdout);
    let accepted = table.lines().filter(|line| {
        line.trim_start()
            .starts_with("GatewayInstance  shop/default")
    });
    assert_eq!(accepted.count(), 1, "{table}");
    let grant = table
        .lines()
        .filter(|line| line.trim_start().starts_with("apiVersion:"));
    assert_eq!(grant.count(), 1, "{table}");
    let posing = table.lines().find(|line| line.contains("poses")).unwrap();
    assert!(
        posing.starts_with("HTTPRoute ") && posing.ends_with("wrong"),
        "{posing}"
    );
    assert!(posing.contains("\"shop/poses  ok\""), "{posing}");
}

#[test]
fn the_grant_that_is_proposed_is_one_that_helps() {
    let directory = tempfile::tempdir().unwrap();
    let inputs = goldens().join("no-grant/in");
    let inputs = inputs.to_str().unwrap();
    let refused = json(&run(
        directory.path(),
        &["check", "-f", inputs, "-o", "json"],
    ));
    let message = refused["instances"][0]["message"].as_str().unwrap();
    let grant = &message[message.find("apiVersion:").unwrap()..];
    fs::write(directory.path().join("grant.yaml"), grant).unwrap();
    let granted = json(&run(
        directory.path(),
        &["check", "-f", ".", inputs, "-o", "json"],
    ));
    assert_eq!(granted["instances"][0]["accepted"], true);
    // What was told as if it were granted is so.
    assert_eq!(refused["objects"], granted["objects"]);
    assert_eq!(refused["instances"][0]["asIfGranted"], true);
}

#[test]
fn that_an_envoy_serves_it_is_never_pretended() {
    let report = json(&check("good", &["-o", "json"]));
    let programmed = condition(&report, "default", "Programmed");
    assert_eq!(
        (&programmed["status"], &programmed["wrong"]),
        (&"Unknown".into(), &false.into())
    );
    assert_eq!(condition(&report, "default", "Accepted")["status"], "True");
    assert_eq!(condition(&report, "web", "ResolvedRefs")["status"], "True");
}

#[test]
fn loopback_is_good_only_where_it_is_asked_for() {
    assert_eq!(check("loopback", &[]).status.code(), Some(1));
    assert_eq!(check("loopback", &["--local"]).status.code(), Some(0));
}

#[test]
fn colours_are_for_terminals() {
    let escapes =
        |arguments: &[&str]| text(&check("no-grant", arguments).stdout).contains('\u{1b}');
    assert!(!escapes(&[]));
    assert!(!escapes(&["--color", "never"]));
    assert!(escapes(&["--color", "always"]));
    assert!(!escapes(&["--color", "always", "-o", "json"]));
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let answer = program(&goldens().join("no-grant"))
        .args(["check", "-f", "in", "-o", "json"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(text(&answer.stderr), "");
    assert_eq!(answer.status.code(), Some(1));
}

#[test]
fn paths_are_put_together_and_problems_name_them() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, port: u16| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {{ports: [{{port: {port}}}]}}\n"
        );
        fs::write(path, text).unwrap();
    };
    write("one/web.yaml", 80);
    write("two/web.yaml", 80);
    write("three/web.yaml", 81);
    fs::write(directory.path().join("two/torn.yaml"), "a: [").unwrap();
    let same = run(
        directory.path(),
        &["check", "-f", "one", "-f", "two/web.yaml"],
    );
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stdout));
    let report = json(&run(
        directory.path(),
        &["check", "-f", "one", "two", "three", "-o", "json"],
    ));
    let paths: Vec<&str> = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["two/torn.yaml", "three"]);
    assert_eq!(report["files"][1]["object"], "Service shop/web");
}

#[test]
fn of_the_examples_only_the_certificate_is_missing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let teams = [
        "check",
        "-o",
        "json",
        "-f",
        "examples/admin",
        "examples/team-a",
        "examples/team-b",
    ];
    let answer = run(root, &[&teams[..], &["examples/cluster"]].concat());
    assert_eq!(answer.status.code(), Some(1));
    let report = json(&answer);
    let absent = report["absent"].as_array().unwrap();
    assert_eq!(absent.len(), 1, "{absent:#?}");
    assert_eq!(
        (&absent[0]["kind"], &absent[0]["name"]),
        (&"Secret".into(), &"team-a-tls".into())
    );
    let instances = report["instances"].as_array().unwrap();
    assert!(
        instances
            .iter()
            .all(|instance| instance["accepted"] == true)
    );
    let objects = report["objects"].as_array().unwrap();
    let is_wrong = |object: &&Value| {
        let conditions = object["conditions"].as_array().unwrap();
        conditions
            .iter()
            .any(|condition| condition["wrong"] == true)
            || object["problems"] != Value::Array(vec![])
    };
    let wrong: Vec<&Value> = objects
        .iter()
        .filter(is_wrong)
        .map(|object| &object["kind"])
        .collect();
    assert_eq!(wrong, ["Gateway"]);
    // Without the backends, their Services are told of.
    let report = json(&run(root, &teams));
    assert_eq!(
        condition(&report, "shop", "ResolvedRefs")["reason"],
        "BackendNotFound"
    );
    assert_eq!(report["absent"].as_array().unwrap().len(), 4);
}
