//! Typed values out of the tree. Every question notes its key: what was never asked for is an
//! unknown key, and the closest key that was asked for is the suggestion.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::file::{Node, PREFIX, Table, Value};
use super::mistake::{Findings, Place, Wrong};
use super::value;

/// A table of the file that is being read; it may be absent.
pub(super) struct Section<'t> {
    path: String,
    /// Its number, if it is one of an array.
    index: Option<usize>,
    place: Place,
    table: Option<&'t Table>,
    asked: RefCell<BTreeSet<&'static str>>,
    findings: &'t Findings,
}

/// A string and its place.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) place: Place,
    pub(super) text: String,
}

impl<'t> Section<'t> {
    /// Starts at the top.
    pub(super) fn root(table: &'t Table, findings: &'t Findings) -> Self {
        Self {
            path: String::new(),
            index: None,
            place: Place::File,
            table: Some(table),
            asked: RefCell::default(),
            findings,
        }
    }

    /// Where the section begins: for what is missing in it.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the file has it.
    pub(super) const fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Where mistakes and warnings go.
    pub(super) const fn findings(&self) -> &'t Findings {
        self.findings
    }

    /// Notes a mistake.
    pub(super) fn wrong(&self, place: &Place, wrong: Wrong) {
        self.findings.wrong(place, wrong);
    }

    /// A sub-table, present or not.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let path = self.path_of(key);
        let (place, table) = match self.node(key) {
            None => (self.place.clone(), None),
            Some(node) => {
                let table = if let Value::Table(table) = &node.value {
                    Some(table)
                } else {
                    let header = format!("[{path}]");
                    self.mismatch(&node.place, &path, "a table", &node.value, &header);
                    None
                };
                (node.place.clone(), table)
            }
        };
        Self {
            path,
            index: None,
            place,
            table,
            asked: RefCell::default(),
            findings: self.findings,
        }
    }

    /// An array of tables.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let path = self.path_of(key);
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let header = format!("[[{path}]]");
        let Value::Array(items) = &node.value else {
            self.mismatch(&node.place, &path, "a list of tables", &node.value, &header);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Value::Table(table) = &item.value else {
                self.mismatch(&item.place, &path, "a list of tables", &item.value, &header);
                continue;
            };
            sections.push(Self {
                path: path.clone(),
                index: Some(index),
                place: item.place.clone(),
                table: Some(table),
                asked: RefCell::default(),
                findings: self.findings,
            });
        }
        sections
    }

    /// Whether `key` is there, with whatever value.
    pub(super) fn is_set(&self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// A string; absent and empty are the same.
    pub(super) fn text(&self, key: &'static str) -> Option<Text> {
        let node = self.node(key)?;
        let Value::String(text) = &node.value else {
            self.mismatch(
                &node.place,
                key,
                "a string",
                &node.value,
                "quotes around it",
            );
            return None;
        };
        (!text.is_empty()).then(|| Text {
            place: node.place.clone(),
            text: text.clone(),
        })
    }

    /// A string that must be there; `cure` says what to write.
    pub(super) fn required(&self, key: &'static str, cure: &str) -> Option<Text> {
        let text = self.text(key);
        // A value of another type has been reported already.
        let unreported = match self.node(key).map(|node| &node.value) {
            None => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        };
        if text.is_none() && unreported {
            let what = format!("{}`{key}` is missing", self.header());
            self.wrong(&self.place, Wrong::new(what, cure));
        }
        text
    }

    /// A string as `parse` reads it.
    pub(super) fn parsed<T>(
        &self,
        text: &Text,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        parse(&text.text)
            .map_err(|wrong| self.wrong(&text.place, wrong))
            .ok() // reported above
    }

    /// A list of strings; a variable may hold several, separated by commas.
    pub(super) fn texts(&self, key: &'static str) -> Vec<Text> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let cure = format!("square brackets: {key} = [\"…\"]");
        match (&node.value, &node.place) {
            (Value::Array(items), _) => {
                let mut texts = Vec::new();
                for item in items {
                    if let Value::String(text) = &item.value {
                        texts.push(Text {
                            place: item.place.clone(),
                            text: text.clone(),
                        });
                    } else {
                        self.mismatch(&item.place, key, "a list of strings", &item.value, &cure);
                    }
                }
                texts
            }
            (Value::String(text), Place::Variable(_)) => text
                .split(',')
                .map(|part| Text {
                    place: node.place.clone(),
                    text: part.trim().to_owned(),
                })
                .collect(),
            (other, place) => {
                self.mismatch(place, key, "a list of strings", other, &cure);
                Vec::new()
            }
        }
    }

    /// Whether `key` is absent or a list: then its emptiness is not reported yet.
    pub(super) fn has_list(&self, key: &'static str) -> bool {
        match self.node(key).map(|node| &node.value) {
            None => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        }
    }

    /// A secret that only a variable may hold; in the file it is a mistake.
    pub(super) fn inline_secret(&self, key: &'static str, file_key: &str) -> Option<Text> {
        let node = self.node(key)?;
        match (&node.value, &node.place) {
            (Value::String(text), Place::Variable(_)) => Some(Text {
                place: node.place.clone(),
                text: text.clone(),
            }),
            (_, place) => {
                let what = format!("{}`{key}` is a secret, and this file is not", self.header());
                let variable = self.variable_of(key);
                let cure = format!("name a file with `{file_key}`, or set {variable}");
                self.wrong(place, Wrong::new(what, cure));
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer<T>(&self, key: &'static str, default: T, bounds: RangeInclusive<T>) -> T
    where
        T: Copy + Display + PartialOrd + TryFrom<i64>,
    {
        let Some(node) = self.node(key) else {
            return default;
        };
        let number = match (&node.value, &node.place) {
            (Value::Integer(number), _) => Some(*number),
            (Value::String(text), Place::Variable(_)) => text.trim().parse().ok(), // reported below
            (_, _) => None,
        };
        let number = number.and_then(|number| T::try_from(number).ok()); // reported below
        match number {
            Some(number) if bounds.contains(&number) => number,
            Some(_) | None => {
                let cure = format!(
                    "write a number from {} to {}, default {default}",
                    bounds.start(),
                    bounds.end()
                );
                let what = format!("`{key}` is {}", show(&node.value));
                self.wrong(&node.place, Wrong::new(what, cure));
                default
            }
        }
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &self,
        key: &'static str,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(node) = self.node(key) else {
            return default;
        };
        let shown = value::show_duration(default);
        let Value::String(text) = &node.value else {
            let cure = format!("quotes and a unit (ms, s, m, h, d), default \"{shown}\"");
            self.mismatch(&node.place, key, "a duration", &node.value, &cure);
            return default;
        };
        match value::duration(text) {
            Ok(duration) if bounds.contains(&duration) => duration,
            Ok(_) => {
                let cure = format!(
                    "write a duration from {} to {}, default \"{shown}\"",
                    value::show_duration(*bounds.start()),
                    value::show_duration(*bounds.end())
                );
                let what = format!("`{key}` is \"{text}\"");
                self.wrong(&node.place, Wrong::new(what, cure));
                default
            }
            Err(wrong) => {
                self.wrong(&node.place, wrong);
                default
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(node) = self.node(key) else {
            return default;
        };
        match (&node.value, &node.place) {
            (Value::Boolean(flag), _) => return *flag,
            (Value::String(text), Place::Variable(_)) => {
                if let Ok(flag) = text.trim().parse() {
                    return flag;
                }
            }
            (_, _) => {} // reported below
        }
        let cure = format!("write true or false, default {default}");
        let what = format!("`{key}` is {}", show(&node.value));
        self.wrong(&node.place, Wrong::new(what, cure));
        default
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, default: T, words: &[(&str, T)]) -> T {
        let Some(text) = self.text(key) else {
            return default;
        };
        let found = words.iter().find(|(word, _)| *word == text.text);
        found.map_or_else(
            || {
                let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let cure = format!("choose one of {}", list.join(", "));
                let what = format!("`{key}` is \"{}\"", text.text);
                self.wrong(&text.place, Wrong::new(what, cure));
                default
            },
            |(_, choice)| *choice,
        )
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (key, entry) in self.table.into_iter().flatten() {
            if asked.contains(key.as_str()) {
                continue;
            }
            let cure = value::closest(key, asked.iter().copied()).map_or_else(
                || {
                    let known: Vec<&str> = asked.iter().copied().collect();
                    format!("known here: {}", known.join(", "))
                },
                |near| format!("did you mean `{near}`?"),
            );
            let what = format!("{}unknown key `{key}`", self.header());
            self.findings.wrong(&entry.key, Wrong::new(what, cure));
        }
    }

    fn node(&self, key: &'static str) -> Option<&'t Node> {
        if self.asked.borrow_mut().insert(key) {
            self.findings.key(self.path_of(key));
        }
        self.table?.get(key).map(|entry| &entry.node)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn variable_of(&self, key: &str) -> String {
        let mut name = format!("{PREFIX}{}", self.path.replace('.', "__"));
        if let Some(index) = self.index {
            name = format!("{name}__{index}");
        }
        format!("{name}__{key}").to_uppercase()
    }

    fn header(&self) -> String {
        match self.index {
            Some(_) => format!("[[{}]] ", self.path),
            None if self.path.is_empty() => String::new(),
            None => format!("[{}] ", self.path),
        }
    }

    fn mismatch(&self, place: &Place, key: &str, expected: &str, found: &Value, cure: &str) {
        let what = format!("`{key}` must be {expected}, found {}", found.kind());
        self.wrong(place, Wrong::new(what, format!("write {cure}")));
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Boolean(b) => b.to_string(),
        Value::Integer(n) => n.to_string(),
        Value::String(s) => format!("\"{s}\""),
        Value::Array(_) | Value::Other(_) | Value::Table(_) => value.kind().to_owned(),
    }
}
