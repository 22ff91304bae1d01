//! What is wrong with a configuration: where, what, and what to do.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere in particular: the file as a whole.
    File,
    /// At this line and column of the file, counted from one.
    At {
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// In this environment variable.
    Variable(String),
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub cure: String,
}

/// All mistakes of a configuration; never empty. Its `Display` is one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// Collects the mistakes of a file, in the order of the file.
    #[must_use]
    pub fn new(file: &str, mut list: Vec<Mistake>) -> Self {
        list.sort();
        list.dedup();
        Self {
            file: file.to_owned(),
            list,
        }
    }

    /// The mistakes.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match &mistake.place {
                Place::File => write!(f, "{}: ", self.file)?,
                Place::At { line, column } => write!(f, "{}:{line}:{column}: ", self.file)?,
                Place::Variable(name) => write!(f, "{name}: ")?,
            }
            write!(f, "{}: {}", mistake.what, mistake.cure)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// What is wrong with one value, before its place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What is wrong.
    pub(super) what: String,
    /// What to do.
    pub(super) cure: String,
}

impl Wrong {
    /// Says what is wrong and what to do.
    pub(super) fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cure: cure.into(),
        }
    }
}

/// What the reading of one configuration leaves behind.
#[derive(Debug, Default)]
pub(super) struct Findings {
    mistakes: RefCell<Vec<Mistake>>,
    warnings: RefCell<Vec<String>>,
    keys: RefCell<BTreeSet<String>>,
}

impl Findings {
    /// Notes a mistake.
    pub(super) fn wrong(&self, place: &Place, wrong: Wrong) {
        self.mistakes.borrow_mut().push(Mistake {
            place: place.clone(),
            what: wrong.what,
            cure: wrong.cure,
        });
    }

    /// Notes something valid that is worth a sentence.
    pub(super) fn warn(&self, warning: String) {
        self.warnings.borrow_mut().push(warning);
    }

    /// Notes that a key exists.
    pub(super) fn key(&self, path: String) {
        self.keys.borrow_mut().insert(path);
    }

    /// Whether there is a mistake.
    pub(super) fn has_mistakes(&self) -> bool {
        !self.mistakes.borrow().is_empty()
    }

    /// The mistakes, the warnings, and all keys that were asked for.
    pub(super) fn into_parts(self) -> (Vec<Mistake>, Vec<String>, BTreeSet<String>) {
        (
            self.mistakes.into_inner(),
            self.warnings.into_inner(),
            self.keys.into_inner(),
        )
    }
}
