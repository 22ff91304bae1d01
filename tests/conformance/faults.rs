//! `docs/faults.md` has a line for each attack and fault, and each test that it names is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::named_tests::{exists, quoted, rows};

/// How many rows each section has at least: F framing, A identity, D floods, C crashes, P APNs,
/// G FCM.
const COMPLETE: [(char, u32); 6] = [
    ('F', 12),
    ('A', 11),
    ('D', 19),
    ('C', 16),
    ('P', 11),
    ('G', 6),
];
/// What no test shows: nothing may be added here without a word in the page on why.
const OPEN: &[&str] = &[];

#[test]
fn each_attack_and_fault_has_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let (mut wrong, mut open) = (Vec::new(), Vec::new());
    let mut numbers: BTreeMap<char, Vec<u32>> = BTreeMap::new();
    for row in rows(&page) {
        let [id, comes, happens, shown] = &row[..] else {
            panic!("{row:?}");
        };
        assert!(!comes.is_empty() && !happens.is_empty(), "{row:?}");
        let (section, number) = id.split_at(1);
        let section = numbers.entry(section.chars().next().unwrap()).or_default();
        section.push(number.parse().unwrap());
        let tests = quoted(shown);
        if tests.is_empty() {
            open.push(*id);
        }
        let missing = tests.iter().filter(|test| !exists(root, test));
        wrong.extend(missing.map(|test| format!("{id}: {test}")));
    }
    for (section, found) in &numbers {
        let expected: Vec<u32> = (1..=found.len() as u32).collect();
        assert_eq!(found, &expected, "{section}: not in order");
    }
    for (section, count) in COMPLETE {
        let found = numbers.get(&section).map_or(0, Vec::len);
        assert_eq!(found, count as usize, "{section}: rows are missing");
    }
    assert!(wrong.is_empty(), "there is no such test: {wrong:#?}");
    assert_eq!(open, OPEN, "without a test: these, and those of the list");
}
