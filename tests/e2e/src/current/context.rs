//! The cluster of the current kubeconfig context, asked by the person's own kubectl.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use postern_cluster::feed;

use crate::platform::Ask;

/// Programs that do: `oc` is a kubectl too.
const PROGRAMS: [&str; 2] = ["kubectl", "oc"];

/// A context of a kubeconfig, asked by its name: who chooses another one meanwhile changes nothing.
#[derive(Clone, Debug)]
pub struct Context {
    program: &'static str,
    name: String,
    server: String,
    /// `--as` and `--as-group`, where somebody else acts.
    user: Vec<String>,
}

impl Context {
    /// The current one, as `kubectl config current-context` says it.
    ///
    /// # Errors
    /// Where there is no kubectl or no current context.
    pub fn current() -> Result<Context> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there =
            |program: &&str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
        let program = PROGRAMS.into_iter().find(is_there);
        let Some(program) = program else {
            bail!("CLUSTER=current asks the cluster by kubectl or oc, and neither is on PATH");
        };
        let config = |arguments: &[&str]| -> Result<String> {
            let output = Command::new(program)
                .arg("config")
                .args(arguments)
                .stdin(Stdio::null())
                .output()
                .with_context(|| format!("cannot run {program}"))?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let name = config(&["current-context"])?;
        if name.is_empty() {
            bail!(
                "CLUSTER=current: the kubeconfig (KUBECONFIG, else ~/.kube/config) has no current context: \
                 choose one with `{program} config use-context`"
            );
        }
        let path = "jsonpath={.clusters[0].cluster.server}";
        let server = config(&["view", "--minify", "--context", &name, "-o", path])?;
        if server.is_empty() {
            bail!(
                "CLUSTER=current: the current context {name:?} names no cluster that the kubeconfig has"
            );
        }
        Ok(Context {
            program,
            name,
            server,
            user: Vec::new(),
        })
    }

    /// Which cluster it is: the context's name, and the address of its API server.
    #[must_use]
    pub fn about(&self) -> String {
        format!("context {}, {}", self.name, self.server)
    }

    /// The address of its API server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// How a person asks this cluster, in a shell.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} --context {}", self.program, quoted(&self.name))
    }

    /// The same cluster, asked as a user of a group, by the administrator's right to impersonate.
    #[must_use]
    pub fn acting_as(&self, user: &str, group: &str) -> Context {
        let groups = [group, "system:authenticated"].map(|group| format!("--as-group={group}"));
        let mut user = vec![format!("--as={user}")];
        user.extend(groups);
        Context {
            user,
            ..self.clone()
        }
    }

    /// A command that will ask.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--context").arg(&self.name).args(&self.user);
        command
    }
}

impl Ask for Context {
    fn ask(&self, arguments: &[&str], input: &str) -> Result<Output> {
        feed(self.command().args(arguments), input)
            .with_context(|| format!("cannot run {}", self.program))
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn names_of_contexts_are_safe_to_paste() {
        assert_eq!(quoted("kind-a"), "kind-a");
        assert_eq!(
            quoted("default/api-x:6443/kube:admin"),
            "default/api-x:6443/kube:admin"
        );
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("$(x)'"), r"'$(x)'\'''");
    }
}
