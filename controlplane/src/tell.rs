//! What `serve` says to the person at the terminal: each thing once, when it changes.

use std::collections::BTreeMap;

use postern_refs::Key;
use postern_refs::status::{Condition, Statuses, Truth};
use postern_watch::dir::{FileProblem, Severity};

/// Says what changed since the last time.
#[derive(Debug, Default)]
pub struct Teller {
    files: Vec<String>,
    refusals: BTreeMap<Key, String>,
    troubles: BTreeMap<String, String>,
    programmed: BTreeMap<String, bool>,
}

impl Teller {
    /// A line.
    pub fn say(&mut self, line: &str) {
        println!("{}", one_line(line));
    }

    /// Files that cannot be read; the last good state of each goes on.
    pub fn files(&mut self, problems: &[FileProblem]) {
        let told = problems
            .iter()
            .filter(|problem| problem.severity > Severity::Note);
        let lines: Vec<String> = told
            .map(|problem| match problem.severity {
                Severity::Error => format!("error: {problem}"),
                Severity::Warning | Severity::Note => format!("warning: {problem}"),
            })
            .map(|line| one_line(&line))
            .collect();
        for line in lines.iter().filter(|line| !self.files.contains(line)) {
            println!("{line}");
        }
        if lines.is_empty() && !self.files.is_empty() {
            println!("All files are read again.");
        }
        self.files = lines;
    }

    /// Why an instance gets nothing; `None` if it does.
    pub fn refusal(&mut self, key: &Key, refusal: Option<&str>) {
        match refusal {
            Some(text) => {
                if self.refusals.get(key).map(String::as_str) != Some(text) {
                    println!("GatewayInstance {key}: {text}");
                    self.refusals.insert(key.clone(), text.into());
                }
            }
            None => {
                self.refusals.remove(key);
            }
        }
    }

    /// Conditions in a bad state, when they come and when they go; and when a Gateway is served.
    pub fn statuses(&mut self, statuses: &Statuses) {
        let mut troubles = BTreeMap::new();
        for ((kind, key), status) in statuses {
            for (about, condition) in status.conditions() {
                let subject = if about.is_empty() {
                    format!("{} {key}", kind.name())
                } else {
                    format!("{} {key}, {about}", kind.name())
                };
                if about.is_empty() && &*condition.kind == "Programmed" {
                    let now = condition.status == Truth::True;
                    if self.programmed.insert(subject.clone(), now) != Some(now) && now {
                        println!("{subject}: an Envoy serves it");
                    }
                }
                if is_trouble(condition) {
                    let text = format!(
                        "{}={} {}: {}",
                        condition.kind,
                        condition.status.as_str(),
                        condition.reason,
                        condition.message
                    );
                    troubles.insert(
                        format!("{subject}: {}", condition.kind),
                        format!("{subject}: {}", one_line(&text)),
                    );
                }
            }
        }
        for (subject, text) in &troubles {
            if self.troubles.get(subject) != Some(text) {
                println!("{text}");
            }
        }
        for subject in self
            .troubles
            .keys()
            .filter(|subject| !troubles.contains_key(*subject))
        {
            println!("{subject} is well again");
        }
        self.troubles = troubles;
    }
}

/// Whether a condition says that something is wrong, rather than that it waits.
fn is_trouble(condition: &Condition) -> bool {
    condition.is_bad() && &*condition.reason != "Pending"
}

/// Tenants' text stays on its line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
