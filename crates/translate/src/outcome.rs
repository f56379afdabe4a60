//! Values that come with problems, and what a problem means for a condition.

use postern_api::reasons::{ConditionType, Reason};
use postern_refs::{FieldPath, Name};

/// What is wrong, in the specification's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The object does not decode.
    Undecodable,
    /// A field, or a value of one, that is not built: refused, never ignored.
    UnsupportedValue,
    /// A value that no proxy could serve.
    InvalidValue,
    /// Filters that exclude each other.
    IncompatibleFilters,
    /// A reference across namespaces that both owners did not allow.
    RefNotPermitted,
    /// A reference that the operator has not decided yet.
    Pending,
    /// A backend that does not exist.
    BackendNotFound,
    /// A reference to a kind that cannot be used there.
    InvalidKind,
    /// A backend that speaks a protocol that is not built.
    UnsupportedProtocol,
    /// No listener has this section name or port.
    NoMatchingParent,
    /// No listener takes this route.
    NotAllowedByListeners,
    /// No listener shares a hostname with this route.
    NoMatchingListenerHostname,
    /// A hostname that no TenantGrant gives to the namespace.
    HostnameNotGranted,
    /// A hostname that stands twice in the route.
    DuplicateHostname,
    /// A certificate that is absent or that no TLS server could use.
    InvalidCertificateRef,
    /// A listener of a protocol that is not built.
    UnsupportedListener,
    /// Listeners of different protocols on one port.
    ProtocolConflict,
    /// Listeners of one port with the same hostname.
    HostnameConflict,
    /// `allowedRoutes.kinds` names a kind that the listener cannot take.
    InvalidRouteKinds,
    /// The operator gave no container port for the listener's port yet.
    NoPort,
    /// More than the TenantGrant's quota.
    OverQuota,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A route at one parent.
    Route,
    /// A Gateway's listener.
    Listener,
}

/// What a cause does to the conditions of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The condition's type; `Accepted`, `ResolvedRefs`, `Conflicted` …
    pub condition: &'static str,
    /// Its reason.
    pub reason: &'static str,
    /// Whether the condition turns to its bad state; a note only adds to the message.
    pub bad: bool,
}

impl Cause {
    /// The only mapping from a cause to a condition.
    #[must_use]
    pub fn condition(self, subject: Subject) -> Effect {
        let effect = |condition: ConditionType, reason: Reason, bad| Effect {
            condition: condition.as_str(),
            reason: reason.as_str(),
            bad,
        };
        let bad = |condition, reason| effect(condition, reason, true);
        let note = |condition, reason| effect(condition, reason, false);
        match (self, subject) {
            (Cause::Undecodable | Cause::InvalidValue, _) => {
                bad(ConditionType::Accepted, Reason::Invalid)
            }
            (Cause::UnsupportedValue, _) => bad(ConditionType::Accepted, Reason::UnsupportedValue),
            (Cause::IncompatibleFilters, _) => {
                bad(ConditionType::Accepted, Reason::IncompatibleFilters)
            }
            (Cause::RefNotPermitted, _) => {
                bad(ConditionType::ResolvedRefs, Reason::RefNotPermitted)
            }
            (Cause::Pending, _) => bad(ConditionType::ResolvedRefs, Reason::Pending),
            (Cause::BackendNotFound, _) => {
                bad(ConditionType::ResolvedRefs, Reason::BackendNotFound)
            }
            (Cause::InvalidKind, Subject::Route) => {
                bad(ConditionType::ResolvedRefs, Reason::InvalidKind)
            }
            (Cause::InvalidKind, Subject::Listener) => {
                bad(ConditionType::ResolvedRefs, Reason::InvalidCertificateRef)
            }
            (Cause::UnsupportedProtocol, Subject::Route) => {
                bad(ConditionType::ResolvedRefs, Reason::UnsupportedProtocol)
            }
            (Cause::UnsupportedProtocol | Cause::UnsupportedListener, _) => {
                bad(ConditionType::Accepted, Reason::UnsupportedProtocol)
            }
            (Cause::NoMatchingParent, _) => bad(ConditionType::Accepted, Reason::NoMatchingParent),
            (Cause::NotAllowedByListeners, _) => {
                bad(ConditionType::Accepted, Reason::NotAllowedByListeners)
            }
            (Cause::NoMatchingListenerHostname, _) => {
                bad(ConditionType::Accepted, Reason::NoMatchingListenerHostname)
            }
            (Cause::HostnameNotGranted, _) => {
                note(ConditionType::Accepted, Reason::HostnameNotGranted)
            }
            (Cause::DuplicateHostname, _) => note(ConditionType::Accepted, Reason::Accepted),
            (Cause::InvalidCertificateRef, _) => {
                bad(ConditionType::ResolvedRefs, Reason::InvalidCertificateRef)
            }
            (Cause::InvalidRouteKinds, _) => {
                bad(ConditionType::ResolvedRefs, Reason::InvalidRouteKinds)
            }
            (Cause::ProtocolConflict, _) => {
                bad(ConditionType::Conflicted, Reason::ProtocolConflict)
            }
            (Cause::HostnameConflict, _) => {
                bad(ConditionType::Conflicted, Reason::HostnameConflict)
            }
            (Cause::NoPort, _) => bad(ConditionType::Programmed, Reason::Pending),
            (Cause::OverQuota, _) => bad(ConditionType::Accepted, Reason::QuotaExceeded),
        }
    }
}

/// Something wrong with a field, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// What is wrong, as one word.
    pub cause: Cause,
    /// Where.
    pub field: FieldPath,
    /// What is wrong and the next step, for people.
    pub message: Name,
}

impl Problem {
    /// A problem of a field.
    pub fn new(cause: Cause, field: FieldPath, message: impl Into<Name>) -> Problem {
        Problem {
            cause,
            field,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.0.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

/// A value, and what went wrong on the way to it. Taking the value records the problems, so that
/// configuration and status cannot disagree.
#[derive(Clone, Debug)]
#[must_use]
pub struct Outcome<T> {
    value: T,
    problems: Vec<Problem>,
}

impl<T> Outcome<T> {
    /// A value without problems.
    pub fn clean(value: T) -> Outcome<T> {
        Outcome {
            value,
            problems: Vec::new(),
        }
    }

    /// A value that stands in for what could not be made.
    pub fn flawed(value: T, problem: Problem) -> Outcome<T> {
        Outcome {
            value,
            problems: vec![problem],
        }
    }

    /// The same value with one more problem.
    pub fn and(mut self, problem: Problem) -> Outcome<T> {
        self.problems.push(problem);
        self
    }

    /// The value; its problems go into the report. The only way to the value.
    pub fn record(self, report: &mut Vec<Problem>) -> T {
        report.extend(self.problems);
        self.value
    }
}
