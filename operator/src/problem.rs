//! What can go wrong with one object, and what becomes of it: a condition for the tenant, or
//! another try.

use postern_api::GATEWAY_GROUP;
use postern_api::reasons::Reason;

/// The longest answer of an API server that is repeated in a condition, in characters.
const LONGEST: usize = 600;

/// What went wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An object of the name exists and is not ours.
    #[error("{what} exists and is not ours; it was left alone: delete or rename it")]
    NameInUse {
        /// The object.
        what: String,
    },
    /// The API server refused a write, and will refuse it again.
    #[error("the API server refused {what}: {answer}")]
    WriteRefused {
        /// The object.
        what: String,
        /// The API server's answer.
        answer: String,
    },
    /// The cluster does not serve the Gateway API. It is noticed when it comes.
    #[error(
        "the cluster does not serve the Gateway API ({GATEWAY_GROUP}/v1): OpenShift has it from 4.19 on, elsewhere \
         an administrator applies its definitions (standard channel, 1.2.1 or newer); the instance goes on by \
         itself once they are there"
    )]
    GatewayApiAbsent,
    /// The object or its namespace is being deleted.
    #[error("{what} is being deleted")]
    Leaving {
        /// The object.
        what: String,
    },
    /// The API server could not be asked, or somebody else was faster again and again.
    #[error("{what}: {answer}")]
    Unreachable {
        /// The object.
        what: String,
        /// The error.
        answer: String,
    },
}

impl Problem {
    /// What an error of a request means.
    #[must_use]
    pub fn of(what: &impl std::fmt::Display, error: &kube::Error) -> Problem {
        let what = what.to_string();
        match error {
            kube::Error::Api(status) if is_leaving(status) => Problem::Leaving { what },
            kube::Error::Api(status)
                if matches!(status.code, 400..=499) && !matches!(status.code, 401 | 409 | 429) =>
            {
                let answer = shorten(&status.message);
                Problem::WriteRefused { what, answer }
            }
            kube::Error::Api(status) => {
                let answer = shorten(&status.message);
                Problem::Unreachable { what, answer }
            }
            other => Problem::Unreachable {
                what,
                answer: shorten(&chain(other)),
            },
        }
    }

    /// The reason for `Ready=False`, if this is for the tenant to know.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Problem::NameInUse { .. } => Some(Reason::NameInUse),
            Problem::WriteRefused { .. } => Some(Reason::WriteRefused),
            Problem::GatewayApiAbsent => Some(Reason::NotServed),
            Problem::Leaving { .. } => Some(Reason::Progressing),
            Problem::Unreachable { .. } => None,
        }
    }
}

/// Whether a write was refused because its namespace is being deleted.
fn is_leaving(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403
        && causes
            .into_iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
}

/// An error and what caused it, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.replace(['\n', '\r'], " ")
}

/// At most so much of a text that it fits into a condition beside others.
#[must_use]
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(code: u16, cause: &str) -> kube::Error {
        let details = serde_json::json!({"causes": [{"reason": cause}]});
        let details = serde_json::from_value(details).expect("details");
        let status = Status::failure("the answer", "Reason")
            .with_code(code)
            .with_details(details);
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn refusals_are_told_from_what_may_pass() {
        let cases = [
            (403, "", Some(Reason::WriteRefused)),
            (422, "FieldValueInvalid", Some(Reason::WriteRefused)),
            (403, "NamespaceTerminating", Some(Reason::Progressing)),
            (401, "", None),
            (409, "", None),
            (429, "", None),
            (503, "", None),
        ];
        for (code, cause, reason) in cases {
            let problem = Problem::of(&"Service a/b", &answer(code, cause));
            assert_eq!(problem.reason(), reason, "{code} {cause}");
            assert!(problem.to_string().contains("Service a/b"));
        }
    }

    #[test]
    fn a_long_answer_is_cut_at_a_character() {
        let cut = shorten(&"ä".repeat(2_000));
        assert_eq!(cut.chars().count(), LONGEST + 1);
        assert_eq!(shorten("short"), "short");
    }
}
