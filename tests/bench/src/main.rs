//! `make bench`: ratios, measured side by side in one run, and written to `target/bench.json`.
//!
//! Figures are CPU time, memory and counts, never wall time: they hold on a machine that does something
//! else too.

mod input;
mod memory;
mod row;
mod translation;

use anyhow::Result;
use row::Row;

fn main() -> Result<()> {
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(translation::rows()?);
    rows.extend(memory::rows()?);
    for row in &rows {
        println!("{row}");
    }
    row::write(&rows)
}
