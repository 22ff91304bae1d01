//! Finds the tests that a page of the documentation names.

use std::fs;
use std::path::{Path, PathBuf};

/// The rows of a page's tables, each as its cells.
pub fn rows(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    rows.filter(|line| !line.starts_with("| #"))
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The words in backticks.
pub fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether a test is declared where its name says, and if it is only a scene, listed there too.
pub fn exists(root: &Path, test: &str) -> bool {
    let mut parts: Vec<&str> = test.split("::").collect();
    let Some(name) = parts.pop() else {
        return false;
    };
    let Some(file) = file_of(root, &parts) else {
        return false;
    };
    let text = fs::read_to_string(file).unwrap();
    let declared = format!("fn {name}(");
    let Some((before, _)) = text.split_once(&declared) else {
        return false;
    };
    let attributes = before.rsplit("\n\n").next().unwrap_or_default();
    attributes.contains("#[test]")
        || attributes.contains("#[tokio::test")
        || is_listed(root, &parts, name, &text)
}

/// Live tests and those with real phones are functions that a macro makes tests of.
fn is_listed(root: &Path, parts: &[&str], name: &str, text: &str) -> bool {
    let main = root.join("tests").join(parts[0]).join("main.rs");
    let main = fs::read_to_string(main).unwrap_or_default();
    let names = |text: &str| {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| *word == name)
            .count()
    };
    names(text) + names(&main) > 1
}

fn file_of(root: &Path, parts: &[&str]) -> Option<PathBuf> {
    let (first, rest) = parts.split_first()?;
    let folder = match *first {
        "rouse" => root.join("src"),
        suite => root.join("tests").join(suite),
    };
    if rest.is_empty() {
        return Some(folder.join("main.rs")).filter(|file| file.exists());
    }
    let file = folder.join(rest.join("/")).with_extension("rs");
    let module = folder.join(rest.join("/")).join("mod.rs");
    [file, module].into_iter().find(|file| file.exists())
}
