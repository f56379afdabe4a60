//! `cargo xtask test`: every test that this machine can run, and what it could not and why.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use postern_e2e::tools;

/// What a test prints on a line of its own when it cannot run here, with the reason.
const NOT_RUN: &str = "not run:";

/// Runs all tests of the workspace.
pub fn run() -> Result<ExitCode> {
    let root = tools::repository();
    let started = Instant::now();
    println!(
        "All tests: unit, golden, property, with real Envoys, and on the real cluster (root; its programs are built\n\
         once, about eight minutes). The full log is target/test.log."
    );
    // Tests that need Envoy find it in the cache.
    match tools::envoy() {
        Ok(path) => println!(
            "[{:6.1} s] Envoy {} is there: {}",
            started.elapsed().as_secs_f64(),
            tools::ENVOY,
            path.display()
        ),
        Err(error) => println!(
            "[{:6.1} s] no Envoy: {error:#}",
            started.elapsed().as_secs_f64()
        ),
    }
    let log = root.join("target/test.log");
    let mut log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--",
            "--show-output",
        ])
        .current_dir(&root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        writeln!(log, "{line}")?;
        if tally.take(&line) {
            println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
        }
    }
    let status = child.wait()?;
    for reason in &tally.not_run {
        println!("{NOT_RUN} {reason}");
    }
    println!("Took {:.0} s.", started.elapsed().as_secs_f64());
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is known from the lines so far.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    not_run: BTreeSet<String>,
    /// Within the part that tells of failures: everything of it is shown.
    failures: bool,
}

impl Tally {
    /// Takes in a line; whether a person should see it now.
    fn take(&mut self, line: &str) -> bool {
        if let Some(reason) = line.trim_start().strip_prefix(NOT_RUN) {
            self.not_run.insert(reason.trim().to_owned());
            return false;
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.failures = false;
            let count = |what: &str| -> u64 {
                let words: Vec<&str> = result.split_whitespace().collect();
                words
                    .windows(2)
                    .find(|pair| pair[1].trim_end_matches(';') == what)
                    .and_then(|pair| pair[0].parse().ok())
                    .unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed += count("failed");
            return count("passed") + count("failed") > 0;
        }
        if line == "failures:" {
            self.failures = true;
        }
        self.failures || line.ends_with("... FAILED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_reasons_are_counted_and_failures_are_shown() {
        let mut tally = Tally::default();
        assert!(!tally.take("test a ... ok"));
        assert!(!tally.take("not run: needs root"));
        assert!(tally.take("test b ... FAILED"));
        assert!(tally.take("failures:"));
        assert!(tally.take("anything that a failed test said"));
        assert!(tally.take(
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out"
        ));
        assert!(!tally.take("test result: ok. 0 passed; 0 failed; 0 ignored"));
        assert_eq!((tally.passed, tally.failed), (3, 1));
        assert_eq!(
            tally.not_run.into_iter().collect::<Vec<_>>(),
            ["needs root"]
        );
    }
}
