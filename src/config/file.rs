//! TOML and environment in one tree, in which each value knows where it was written.
//!
//! A tree instead of serde's derived structs: serde stops at the first mistake and forgets places
//! once a value is read; an operator wants all mistakes at once, those of meaning too.
//! `ROUSE__LISTEN__0__ADDRESS=…` sets `address` of the first `[[listen]]`: two underscores between
//! names, arrays by index. A variable wins over the file.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::mistake::{Findings, Place, Wrong};

/// Variables with this prefix belong to the configuration.
pub(super) const PREFIX: &str = "ROUSE__";

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value as far as TOML knows it.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Array(Vec<Node>),
    Boolean(bool),
    Integer(i64),
    /// A float or a date: nothing that we have a use for.
    Other(&'static str),
    String(String),
    Table(Table),
}

/// A table: the place of the key beside each value.
pub(super) type Table = BTreeMap<String, Entry>;

/// A key's place and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Place,
    pub(super) node: Node,
}

impl Value {
    /// What it is, with its article, for "expected …, found …".
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Array(_) => "a list",
            Self::Boolean(_) => "true or false",
            Self::Integer(_) => "a number",
            Self::Other(kind) => kind,
            Self::String(_) => "a string",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads TOML; mistakes of syntax are noted, and what can be read is read.
pub(super) fn parse(text: &str, findings: &Findings) -> Table {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = error.span().map_or(Place::File, |s| place(text, s.start));
        let wrong = Wrong::new(
            format!("not TOML: {}", error.message()),
            "correct the syntax",
        );
        findings.wrong(&place, wrong);
    }
    table(text, root.get_ref())
}

fn table(text: &str, source: &DeTable<'_>) -> Table {
    source
        .iter()
        .map(|(key, value)| {
            let entry = Entry {
                key: place(text, key.span().start),
                node: node(text, value.span().start, value.get_ref()),
            };
            (key.get_ref().clone().into_owned(), entry)
        })
        .collect()
}

fn node(text: &str, start: usize, source: &DeValue<'_>) -> Node {
    let value = match source {
        DeValue::String(s) => Value::String(s.clone().into_owned()),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
            .map_or(Value::Other("a number beyond all bounds"), Value::Integer),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| node(text, item.span().start, item.get_ref()))
                .collect(),
        ),
        DeValue::Table(items) => Value::Table(table(text, items)),
    };
    Node {
        place: place(text, start),
        value,
    }
}

/// Turns a byte offset into line and column.
fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place::At {
        line: before.matches('\n').count() + 1,
        column: before.get(line_start..).unwrap_or("").chars().count() + 1,
    }
}

/// Lays the environment's variables over the tree.
pub(super) fn overlay(root: &mut Table, variables: &[(String, String)], findings: &Findings) {
    let mut ours: Vec<(Vec<Step>, &str, &str)> = variables
        .iter()
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(PREFIX)?;
            Some((path.split("__").map(Step::new).collect(), &**name, &**value))
        })
        .collect();
    // Index 2 before index 10, so that entries can be added one after the other.
    ours.sort();
    for (path, name, value) in ours {
        let place = Place::Variable(name.to_owned());
        if let Err(wrong) = set(root, &path, value, &place) {
            findings.wrong(&place, wrong);
        }
    }
}

/// One part of a variable's name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Index(usize),
    Key(String),
}

impl Step {
    fn new(part: &str) -> Self {
        part.parse()
            .map_or_else(|_| Self::Key(part.to_ascii_lowercase()), Self::Index)
    }
}

fn set(root: &mut Table, path: &[Step], value: &str, place: &Place) -> Result<(), Wrong> {
    let Some((Step::Key(first), rest)) = path.split_first() else {
        return Err(Wrong::new(
            "names no key",
            "write ROUSE__SECTION__KEY, for example ROUSE__LOG__FILTER",
        ));
    };
    let entry = root.entry(first.clone()).or_insert_with(|| Entry {
        key: place.clone(),
        node: empty(rest, place),
    });
    let mut at = &mut entry.node;
    let mut rest = rest;
    while let Some((step, deeper)) = rest.split_first() {
        at = descend(at, step, deeper, place)?;
        rest = deeper;
    }
    *at = Node {
        place: place.clone(),
        value: Value::String(value.to_owned()),
    };
    Ok(())
}

fn descend<'t>(
    at: &'t mut Node,
    step: &Step,
    deeper: &[Step],
    place: &Place,
) -> Result<&'t mut Node, Wrong> {
    match (&mut at.value, step) {
        (Value::Table(table), Step::Key(key)) => {
            let entry = table.entry(key.clone()).or_insert_with(|| Entry {
                key: place.clone(),
                node: empty(deeper, place),
            });
            Ok(&mut entry.node)
        }
        (Value::Array(items), Step::Index(index)) => {
            let count = items.len();
            if *index == count {
                items.push(empty(deeper, place));
            }
            items.get_mut(*index).ok_or_else(|| {
                Wrong::new(
                    format!("index {index}, but there are {count} entries"),
                    "count from 0 and leave no gaps",
                )
            })
        }
        (value, Step::Key(key)) => Err(Wrong::new(
            format!("`{}` stands where the file has {}", key, value.kind()),
            "a list takes an index there (ROUSE__LISTEN__0__ADDRESS), a plain value takes nothing",
        )),
        (value, Step::Index(index)) => Err(Wrong::new(
            format!("index {index} stands where the file has {}", value.kind()),
            "only lists take an index, as in ROUSE__LISTEN__0__ADDRESS",
        )),
    }
}

/// What has to be there for the rest of a path to go into.
fn empty(rest: &[Step], place: &Place) -> Node {
    let value = match rest.first() {
        Some(Step::Index(_)) => Value::Array(Vec::new()),
        Some(Step::Key(_)) => Value::Table(Table::new()),
        None => Value::String(String::new()),
    };
    Node {
        place: place.clone(),
        value,
    }
}
