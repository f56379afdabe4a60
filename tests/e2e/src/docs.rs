//! The documentation's pages and what of them is YAML.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::tools;

/// A page and its YAML blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its file's name, without the ending.
    pub name: String,
    /// What stands in its fenced blocks whose language is YAML (`CommonMark`, 4.5).
    pub blocks: Vec<String>,
}

/// The pages that have such blocks: the README and what is below `docs`, without decisions and
/// reference.
///
/// # Errors
/// Where they cannot be read, or a block has no end.
pub fn pages() -> Result<Vec<Page>> {
    let docs = tools::repository().join("docs");
    let mut paths: Vec<PathBuf> = vec![tools::repository().join("README.md")];
    for folder in [docs.clone(), docs.join("patterns")] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let mut pages = Vec::new();
    for path in paths {
        let blocks = blocks(&fs::read_to_string(&path)?)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if !blocks.is_empty() {
            let name = path.file_stem().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            pages.push(Page { name, blocks });
        }
    }
    Ok(pages)
}

/// What a page shows of a kind; its blocks are of one object each.
///
/// # Errors
/// Where there is no such page or block.
pub fn shown(page: &str, kind: &str) -> Result<Value> {
    let mut pages = pages()?.into_iter();
    let found = pages.find(|one| one.name == page);
    for block in found.with_context(|| format!("no page {page}"))?.blocks {
        let object: Value = serde_saphyr::from_str(&block).context(block)?;
        if object["kind"] == kind {
            return Ok(object);
        }
    }
    bail!("{page} shows no {kind}")
}

fn blocks(text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match (&mut block, line.trim_end()) {
            (None, "```yaml") => block = Some(String::new()),
            (Some(_), "```") => found.extend(block.take()),
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    ensure!(block.is_none(), "a block has no end");
    Ok(found)
}
