//! One measured figure beside its reference.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// A figure, what it is measured against, and their ratio.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it is measured against.
    pub reference: String,
    /// That figure, in the same unit.
    pub reference_value: f64,
    /// `value / reference_value`.
    pub ratio: f64,
    /// How, and what to know.
    pub note: String,
}

impl Row {
    /// A row; the ratio follows.
    pub fn new(
        name: &str,
        unit: &'static str,
        value: f64,
        reference: &str,
        reference_value: f64,
        note: &str,
    ) -> Row {
        Row {
            name: name.into(),
            value,
            unit,
            reference: reference.into(),
            reference_value,
            ratio: value / reference_value,
            note: note.into(),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<52} {:>10.3} {:<7} / {:<34} {:>10.3} = {:>7.4}  {}",
            self.name,
            self.value,
            self.unit,
            self.reference,
            self.reference_value,
            self.ratio,
            self.note
        )
    }
}

/// Writes `target/bench.json`.
pub fn write(rows: &[Row]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .context("no repository")?;
    let path = root.join("target/bench.json");
    std::fs::create_dir_all(root.join("target"))?;
    std::fs::write(&path, serde_json::to_vec_pretty(rows)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}
