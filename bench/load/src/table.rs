//! Figures of all rounds: medians, spread, ratios.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::account;
use crate::scenario::{ALL, Figures};
use crate::server::Kind;

/// What the ratios are of: everything else is raw.
const COMPARED: &[&str] = &[
    "cpu_per_call_udp",
    "cpu_per_call_tls",
    "cpu_per_call_tls_10k",
    "max_calls",
    "cpu_per_register",
    "cpu_per_wake",
    "invite_to_push_p50",
    "invite_to_push_p99",
    "register_to_invite_p50",
    "register_to_invite_p99",
    "memory_per_binding",
    "memory_per_tls_connection",
    "memory_per_held_call",
    "restart",
];

/// By key, the values of each server's rounds.
#[derive(Default)]
pub struct Results {
    values: BTreeMap<String, [Vec<f64>; 2]>,
    failures: Vec<String>,
}

impl Results {
    /// Takes one round's figures.
    pub fn add(&mut self, kind: Kind, figures: Figures) {
        for (key, value) in figures {
            self.values.entry(key).or_default()[kind as usize].push(value);
        }
    }

    /// Notes a round that gave none.
    pub fn failed(&mut self, scenario: &str, kind: Kind, why: &str) {
        self.failures
            .push(format!("{scenario} on {}: {why}", kind.name()));
    }

    /// `{"ratios": {…}, "raw": {…}}`.
    pub fn json(&self) -> Value {
        let ratios: serde_json::Map<String, Value> = COMPARED
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), json!(self.ratio(key)?))))
            .collect();
        let raw: serde_json::Map<String, Value> = self
            .values
            .iter()
            .map(|(key, [rouse, kamailio])| {
                (key.clone(), json!({ "rouse": rouse, "kamailio": kamailio }))
            })
            .collect();
        json!({
            "ratios": ratios,
            "raw": raw,
            "failures": self.failures,
            "machine": account::machine(),
            "commit": account::commit(),
        })
    }

    fn ratio(&self, key: &str) -> Option<f64> {
        let [rouse, kamailio] = self.values.get(key)?;
        Some(median(rouse)? / median(kamailio)?)
    }

    /// Whether a round gave no figures.
    pub const fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The table of bench/README.md.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| | Rouse, median (least–most) | Kamailio | ratio |\n|---|---|---|---|\n",
        );
        for (key, [rouse, kamailio]) in &self.values {
            let ratio = self
                .ratio(key)
                .map_or(String::new(), |ratio| format!("{ratio:.2}"));
            // Writing to a string does not fail.
            writeln!(
                text,
                "| {key} | {} | {} | {ratio} |",
                spread(rouse),
                spread(kamailio)
            )
            .ok();
        }
        writeln!(text).ok();
        for scenario in ALL {
            writeln!(text, "* `{}`: {}", scenario.name, scenario.work).ok();
        }
        let machine = account::machine();
        writeln!(
            text,
            "\nCommit {}; {} cores of {}, Linux {}.",
            account::commit(),
            machine["cores"],
            machine["cpu"].as_str().unwrap_or_default(),
            machine["kernel"].as_str().unwrap_or_default(),
        )
        .ok();
        for failure in &self.failures {
            writeln!(text, "\nFailed: {failure}").ok();
        }
        text
    }
}

/// Puts a table into a page, between its two marks.
pub fn write_into(file: &Path, table: &str) -> Result<()> {
    let (from, to) = ("<!-- table -->\n", "<!-- end -->");
    let page = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let parts = page.split_once(from);
    let parts = parts.and_then(|(head, rest)| Some((head, rest.split_once(to)?.1)));
    let (head, tail) = parts.with_context(|| format!("{} has no marks", file.display()))?;
    fs::write(file, format!("{head}{from}\n{table}\n{to}{tail}"))?;
    Ok(())
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn spread(values: &[f64]) -> String {
    let Some(median) = median(values) else {
        return "–".to_owned();
    };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({}–{})", short(median), short(least), short(most))
}

fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.2e}"),
    }
}
