//! What OpenShift itself would say of a Route.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::build;

/// A Route that somebody writes.
#[derive(Clone, Debug, Serialize)]
pub struct Question {
    /// The Route as it is written.
    pub route: Value,
    /// The one that is there already, where it is an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older: Option<Value>,
}

/// What OpenShift's API server would do.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Verdict {
    /// The host that would be stored; empty where the router is to make it from `spec.subdomain`.
    pub host: String,
    /// Why nothing would be stored; empty where it would be.
    pub errors: Vec<String>,
}

/// Asks OpenShift's library-go (`pkg/route/validation` and `pkg/route/hostassignment`), which its API
/// server runs, about each Route, as a user who has these verbs on `routes/custom-host`. Whether a
/// Secret of `externalCertificate` is there is not asked.
///
/// # Errors
/// Where the program cannot be built, or a question is no Route.
pub fn oracle(questions: &[Question], domain: &str, may: &[&str]) -> Result<Vec<Verdict>> {
    let mut input = String::new();
    for question in questions {
        input.push_str(&serde_json::to_string(question)?);
        input.push('\n');
    }
    let mut command = Command::new(build::router()?.join("router"));
    command
        .args(["oracle", "-domain", domain, "-may"])
        .arg(may.join(","));
    let output = crate::must("the oracle", postern_cluster::feed(&mut command, &input)?)?;
    let verdicts = output
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        verdicts.len() == questions.len(),
        "the oracle answered {} of {} questions",
        verdicts.len(),
        questions.len()
    );
    Ok(verdicts)
}
