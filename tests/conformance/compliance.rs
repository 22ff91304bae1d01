//! `docs/compliance.md` is made from this crate: every section with its tests, and what is not
//! claimed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One file of tests.
struct Section {
    /// The first line of its `//!`, without the RFC's number.
    title: String,
    /// Paragraphs of its `//!` that begin with "Not claimed".
    not_claimed: Vec<String>,
    /// The names of its tests, as sentences.
    tests: Vec<String>,
}

#[test]
fn the_page_is_what_the_tests_say() {
    let made = page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compliance.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == made,
        "docs/compliance.md is old: WRITE_DOCS=1 cargo test --test conformance compliance"
    );
}

fn page() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut page = String::from(
        "# What Rouse conforms to\n\n\
         Made from `tests/conformance` by its test `compliance`: every line under a section is the \
         name of a test\nthat plays it, most of them through the whole gateway in virtual time. \
         What a section leaves out is said there.\n",
    );
    for (number, folder) in numbered(&root, "rfc") {
        let rfc = section(&folder.join("mod.rs"));
        let name = rfc.title.trim_end_matches(['.', ':']);
        page.push_str(&format!("\n## RFC {number}{}\n", after_number(name)));
        write_section(&mut page, &rfc);
        for section in sections(&folder) {
            let title = section.title.trim_end_matches(['.', ':']);
            page.push_str(&format!("\n### {title}\n"));
            write_section(&mut page, &section);
        }
    }
    let torture = section(&root.join("torture_gateway.rs"));
    page.push_str("\n## RFC 4475 and RFC 5118 through the gateway\n");
    write_section(&mut page, &torture);
    page
}

fn write_section(page: &mut String, section: &Section) {
    for paragraph in &section.not_claimed {
        page.push_str(&format!("\n{paragraph}\n"));
    }
    if !section.tests.is_empty() {
        page.push('\n');
    }
    for test in &section.tests {
        page.push_str(&format!("- {test}\n"));
    }
}

/// The folders `rfcNNNN`, in order.
fn numbered(root: &Path, prefix: &str) -> BTreeMap<u32, std::path::PathBuf> {
    fs::read_dir(root)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_str()?;
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, path))
        })
        .collect()
}

/// The files `section_x_y.rs` of a folder, in the order of the RFC.
fn sections(folder: &Path) -> Vec<Section> {
    let mut files: Vec<(Vec<u32>, String, std::path::PathBuf)> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path
                .file_stem()?
                .to_str()?
                .strip_prefix("section_")?
                .to_owned();
            let numbers = name
                .split('_')
                .map_while(|part| part.parse().ok())
                .collect();
            Some((numbers, name, path))
        })
        .collect();
    files.sort();
    files.iter().map(|(_, _, path)| section(path)).collect()
}

fn section(path: &Path) -> Section {
    let text = fs::read_to_string(path).unwrap();
    let docs: Vec<_> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let paragraphs = docs
        .split(|line| line.is_empty())
        .map(|lines| lines.join(" "));
    let not_claimed = paragraphs.filter(|paragraph| paragraph.starts_with("Not claimed"));
    let tests = text.split("#[test]\n").skip(1).filter_map(|after| {
        let name = after.split_once("fn ")?.1.split('(').next()?;
        Some(name.replace('_', " "))
    });
    Section {
        title: docs.first().copied().unwrap_or_default().to_owned(),
        not_claimed: not_claimed.collect(),
        tests: tests.collect(),
    }
}

/// What follows "RFC nnnn" in a title.
fn after_number(title: &str) -> &str {
    let rest = title.strip_prefix("RFC ").unwrap_or(title);
    rest.trim_start_matches(|c: char| c.is_ascii_digit())
}
