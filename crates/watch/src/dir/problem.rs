//! What is wrong with a file, as one line.

use std::fmt;
use std::path::PathBuf;

use postern_refs::{FieldPath, Kind};

use crate::text::readable;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is there that Postern does not read, and need not.
    Note,
    /// Something is there that Postern does not read, and that may have been meant for it.
    Warning,
    /// The file is not taken: its last good content goes on.
    Error,
}

/// A problem of a file: one line, `path[:line]: [Kind namespace/name:] [field:] what is wrong; what
/// to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// How much it matters.
    pub severity: Severity,
    /// The file, from the directory's root.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The object: its kind, and its namespace and name as far as they are known.
    pub object: Option<(Kind, String)>,
    /// The field; empty for the whole.
    pub field: FieldPath,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

impl FileProblem {
    pub(super) fn error(
        path: &std::path::Path,
        message: impl Into<String>,
        advice: &str,
    ) -> FileProblem {
        FileProblem {
            severity: Severity::Error,
            path: path.into(),
            line: None,
            object: None,
            field: FieldPath::default(),
            message: message.into(),
            advice: advice.into(),
        }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of files are a tenant's text too.
        f.write_str(&readable(&self.path.to_string_lossy(), 400))?;
        if let Some(line) = self.line.filter(|line| *line > 0) {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if let Some((kind, name)) = &self.object {
            write!(f, "{} {}: ", kind.name(), readable(name, 520))?;
        }
        if !self.field.0.is_empty() {
            write!(f, "{}: ", readable(&self.field.to_string(), 400))?;
        }
        f.write_str(&readable(&self.message, 600))?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}
