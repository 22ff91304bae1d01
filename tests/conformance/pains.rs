//! `docs/pains.md` has a line for each of the 25, and each test that it names is there and is run.

use std::fs;
use std::path::Path;

use crate::named_tests::{exists, quoted, rows};

#[test]
fn each_of_the_25_has_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/pains.md")).unwrap();
    let mut wrong = Vec::new();
    let mut numbers = Vec::new();
    for row in rows(&page) {
        let [number, met, seen, shown] = &row[..] else {
            panic!("{row:?}");
        };
        numbers.push(number.parse::<u32>().unwrap());
        assert!(!met.is_empty(), "{row:?}");
        assert!(!quoted(seen).is_empty(), "{number}: nobody's thread");
        let tests = quoted(shown);
        assert!(!tests.is_empty(), "{number}: no test");
        let missing = tests.iter().filter(|test| !exists(root, test));
        wrong.extend(missing.map(|test| format!("{number}: {test}")));
    }
    assert_eq!(numbers, (1..=25).collect::<Vec<_>>());
    assert!(wrong.is_empty(), "there is no such test: {wrong:#?}");
}
