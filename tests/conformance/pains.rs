//! `docs/pains.md` has a line for each of the 25, and each test that it names is there and is run.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn each_of_the_25_has_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/pains.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows = rows.filter(|line| !line.starts_with("| #"));
    let mut wrong = Vec::new();
    let mut numbers = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, met, seen, shown] = &cells[..] else {
            panic!("{row}");
        };
        numbers.push(number.parse::<u32>().unwrap());
        assert!(!met.is_empty(), "{row}");
        assert!(!quoted(seen).is_empty(), "{number}: nobody's thread");
        let tests = quoted(shown);
        assert!(!tests.is_empty(), "{number}: no test");
        let missing = tests.iter().filter(|test| !exists(root, test));
        wrong.extend(missing.map(|test| format!("{number}: {test}")));
    }
    assert_eq!(numbers, (1..=25).collect::<Vec<_>>());
    assert!(wrong.is_empty(), "there is no such test: {wrong:#?}");
}

/// The words in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether a test is declared where its name says, and if it is only a scene, listed there too.
fn exists(root: &Path, test: &str) -> bool {
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
    let file = folder.join(rest.join("/")).with_extension("rs");
    let module = folder.join(rest.join("/")).join("mod.rs");
    [file, module].into_iter().find(|file| file.exists())
}
