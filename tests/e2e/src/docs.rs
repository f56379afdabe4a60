//! The documentation's pages and what of them is YAML.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

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
