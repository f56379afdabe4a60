//! A problem: what is wrong, why, and what to do next.

use serde::Serialize;

use crate::read::Condition;

/// Something that is wrong, with its cause and the next steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The kind of the object that has it; empty for the platform.
    pub kind: String,
    /// The object's namespace; empty for kinds without.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// What of the object: `listener web`, `at default`; empty for the whole.
    pub about: String,
    /// The condition that tells it, as `Type=Status`; empty if no condition does.
    pub condition: String,
    /// Why, as one word: the condition's reason, or one of [`crate::FOUND`].
    pub reason: String,
    /// Why, for people.
    pub cause: String,
    /// An object that an admin would apply, as YAML; empty if there is none.
    pub yaml: String,
    /// What to do, in this order.
    pub next: Vec<Step>,
}

/// A step to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Who can take it: `tenant` or `admin`.
    pub by: &'static str,
    /// What to do.
    pub what: String,
    /// The command for it; empty if there is none.
    pub run: String,
}

impl Step {
    /// For those who own the namespace.
    pub(crate) fn tenant(what: impl Into<String>, run: impl Into<String>) -> Step {
        Step {
            by: "tenant",
            what: what.into(),
            run: run.into(),
        }
    }

    /// For the platform's admins.
    pub(crate) fn admin(what: impl Into<String>, run: impl Into<String>) -> Step {
        Step {
            by: "admin",
            what: what.into(),
            run: run.into(),
        }
    }
}

/// What a problem is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub kind: &'static str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub about: &'a str,
}

impl Subject<'_> {
    /// The resource as commands name it.
    pub(crate) fn argument(&self) -> String {
        format!("{} {}", self.kind.to_ascii_lowercase(), self.name)
    }

    /// A command in the object's namespace.
    pub(crate) fn command(&self, rest: &str) -> String {
        match self.namespace {
            "" => format!("kubectl {rest}"),
            namespace => format!("kubectl -n {namespace} {rest}"),
        }
    }

    /// A problem that no condition tells.
    pub(crate) fn found(&self, reason: &str, cause: String, next: Vec<Step>) -> Problem {
        Problem {
            kind: self.kind.into(),
            namespace: self.namespace.into(),
            name: self.name.into(),
            about: self.about.into(),
            reason: reason.into(),
            cause,
            next,
            ..Problem::default()
        }
    }

    /// A problem that a condition tells.
    pub(crate) fn told(&self, condition: &Condition, next: Vec<Step>) -> Problem {
        // Only the grant at the end of a message may take several lines: no text of a tenant may
        // pose as one of ours.
        let ends_in_yaml = condition.reason.ends_with("NotGranted");
        let yaml = condition.message.rfind("\napiVersion: ");
        let (cause, yaml) = match yaml.filter(|_| ends_in_yaml) {
            Some(at) => condition.message.split_at(at),
            None => (&*condition.message, ""),
        };
        Problem {
            condition: format!("{}={}", condition.kind, condition.status),
            cause: cause.trim_end_matches(':').into(),
            yaml: yaml.trim_start().into(),
            ..self.found(&condition.reason, String::new(), next)
        }
    }
}
