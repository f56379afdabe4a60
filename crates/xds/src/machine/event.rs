//! What a stream learns about its Envoy.

use std::sync::Arc;

use postern_envoy::Kind;

/// Greatest length of [`Event::Refused`]'s detail, in bytes.
pub const MAX_DETAIL: usize = 2048;

/// What Envoy has said about what it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Envoy holds these. Also told for what a reconnecting Envoy brings along at the version
    /// that it should have. Both lists may be empty: Envoy has acknowledged that there is nothing.
    Acknowledged {
        /// Their type.
        kind: Kind,
        /// Names and versions.
        names: Vec<(Arc<str>, u64)>,
        /// Names that Envoy has acknowledged to be gone, or never to have been there.
        removed: Vec<Arc<str>>,
    },
    /// Envoy has refused these, and holds what it held before. A response of several resources
    /// that is refused is first taken apart, so this nearly always names the one culprit.
    Refused {
        /// Their type.
        kind: Kind,
        /// Names and versions.
        names: Vec<(Arc<str>, u64)>,
        /// Names that Envoy would not let go.
        removed: Vec<Arc<str>>,
        /// Envoy's reason: at most [`MAX_DETAIL`] bytes, without control characters.
        detail: String,
    },
}

/// Bounds a reason and takes the control characters out: it ends in logs and conditions.
pub(super) fn bounded(detail: &str) -> String {
    let mut bounded = String::with_capacity(detail.len().min(MAX_DETAIL));
    for c in detail.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if bounded.len() + c.len_utf8() > MAX_DETAIL {
            break;
        }
        bounded.push(c);
    }
    bounded
}
