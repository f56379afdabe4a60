//! What `make try` prints works; editing a file changes the answer; a broken file changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use postern_e2e::local::Local;
use postern_e2e::tools;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A line as a person types it, in a shell that knows nothing.
fn shell(line: &str) -> String {
    let output = Command::new("env")
        .args(["-i", "PATH=/usr/local/bin:/usr/bin:/bin", "sh", "-c", line])
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn copy(from: &Path, to: &Path) {
    for part in ["admin", "team-a", "team-b"] {
        std::fs::create_dir_all(to.join(part)).unwrap();
        for entry in std::fs::read_dir(from.join(part)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
        }
    }
}

/// Waits for what a change leads to; the events in between are other processes' to give.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn two_teams_are_served_from_files() {
    let envoy = match tools::envoy() {
        Ok(path) => path,
        Err(error) => {
            println!("not run: two teams from files: {error:#}");
            return;
        }
    };
    let programs = tools::build(
        &["postern-controlplane", "postern-proxy", "postern-echo"],
        "dev",
    )
    .unwrap();
    let scratch =
        Scratch(std::env::temp_dir().join(format!("postern-local-{}", std::process::id())));
    let examples = scratch.0.join("examples");
    copy(&tools::repository().join("examples"), &examples);
    let mut local = Local::start(&programs, &envoy, &examples, &scratch.0.join("run")).unwrap();

    let answers: Vec<String> = local
        .lines()
        .unwrap()
        .iter()
        .map(|(_, line)| shell(line))
        .collect();
    assert!(
        answers[0].contains("\"backend\":\"shop-v"),
        "{}",
        answers[0]
    );
    assert!(
        answers[1].contains("\"backend\":\"shop-v2\""),
        "{}",
        answers[1]
    );
    assert_eq!(answers[2], "301 http://shop.team-a.example/sale\n");
    assert!(
        answers[3].contains("\"backend\":\"shop-v"),
        "{}",
        answers[3]
    );
    for answer in &answers[4..] {
        assert!(answer.contains("\"backend\":\"api\""), "{answer}");
    }

    let a = local.port("team-a", 80).unwrap();
    let b = local.port("team-b", 80).unwrap();
    let code = |host: &str, port: u16, rest: &str| {
        shell(&format!(
            "curl -s -o /dev/null -w '%{{http_code}}' -H 'Host: {host}' http://127.0.0.1:{port}{rest}"
        ))
    };
    assert_eq!(
        code("api.team-b.example", a, "/v1"),
        "404",
        "team b's routes are not at team a's gateway"
    );
    assert_eq!(code("shop.team-a.example", b, "/"), "404");
    assert_eq!(code("api.team-b.example", b, "/v1"), "200");
    assert_eq!(
        code("api.team-b.example", b, "/v11"),
        "404",
        "a prefix is one of path elements"
    );
    assert_eq!(code("api.team-b.example", b, "/search?engine=old"), "404");

    // The split is of one rule: both backends get a share, and the larger gets more.
    let line = format!(
        "for i in $(seq 200); do curl -s -H 'Host: shop.team-a.example' http://127.0.0.1:{a}/; done"
    );
    let many = shell(&line);
    let second = many.matches("\"backend\":\"shop-v2\"").count();
    // 20 are expected; outside of this the chance is below one in a million.
    assert!(
        (2..=50).contains(&second),
        "{second} of 200 went to the second version"
    );

    // Editing a file changes the answer.
    let routes = examples.join("team-b/routes.yaml");
    let good = std::fs::read_to_string(&routes).unwrap();
    std::fs::write(&routes, good.replace("value: /v1", "value: /v2")).unwrap();
    eventually("the edited route is served", || {
        code("api.team-b.example", b, "/v2") == "200"
    });
    assert_eq!(code("api.team-b.example", b, "/v1"), "404");

    // A broken file is one line with path and field, and the last good one goes on.
    std::fs::write(
        &routes,
        good.replace("- {name: api, port: 8080}", "- {name: api, port: many}"),
    )
    .unwrap();
    eventually("the broken file is told", || {
        local.said().lines().any(|line| {
            line.starts_with("error: team-b/routes.yaml:")
                && line.contains("spec.rules[0].backendRefs[0].port")
                && line.contains("; ")
        })
    });
    assert_eq!(code("api.team-b.example", b, "/v2"), "200");

    // What is not built is refused by name; the neighbours go on.
    std::fs::write(
        &routes,
        good.replacen(
            "      backendRefs:",
            "      timeouts: {request: 1s}\n      backendRefs:",
            1,
        ),
    )
    .unwrap();
    eventually("the unsupported field is told", || {
        local.said().contains("spec.rules[0].timeouts")
    });
    eventually("its rule answers 500", || {
        code("api.team-b.example", b, "/v1") == "500"
    });
    assert_eq!(code("api.team-b.example", b, "/search?engine=new"), "200");
    assert_eq!(code("shop.team-a.example", a, "/"), "200");

    // So is a backend that does not exist; its rule answers 500 until it does.
    std::fs::write(
        &routes,
        good.replacen("name: api, port", "name: gone, port", 1),
    )
    .unwrap();
    eventually("the unknown backend is told", || {
        local
            .said()
            .contains("BackendNotFound: spec.rules[0].backendRefs[0].name")
    });
    eventually("its rule answers 500", || {
        code("api.team-b.example", b, "/v1") == "500"
    });
    std::fs::write(&routes, &good).unwrap();
    eventually("it is mended", || {
        code("api.team-b.example", b, "/v1") == "200"
    });

    local.check().unwrap();
    for team in ["team-a", "team-b"] {
        for refusal in ["update_rejected", "update_failure"] {
            assert_eq!(
                local.counter(team, refusal).unwrap(),
                0,
                "{team}: {refusal}"
            );
        }
        assert!(
            local.counter(team, "update_success").unwrap() > 0,
            "{team}: the counters are there"
        );
    }
    assert!(
        !local.said().contains("refused configuration"),
        "{}",
        local.said()
    );
}
