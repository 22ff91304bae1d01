//! `config/grafana` and `config/prometheus` against docs/metrics.md, which another test compares
//! with the program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::read;

/// The metrics with their labels, as docs/metrics.md has them.
fn metrics() -> BTreeMap<String, Vec<String>> {
    let text = read("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `gateway_"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let name = cells.next().expect("a name").trim_matches('`').to_owned();
        let labels = cells.nth(1).expect("labels");
        let labels = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`'));
        (name, labels.map(str::to_owned).collect())
    })
    .collect()
}

/// Each `gateway_…{…}` of an expression: the metric, and the labels that its braces name.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("gateway_") {
        let rest = expression.get(at..).expect("a boundary");
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        let braces = after.strip_prefix('{').and_then(|b| b.split_once('}'));
        let labels = braces.map_or("", |(labels, _)| labels).split(',');
        let labels = labels.filter_map(|label| label.split(['=', '!']).next());
        let labels = labels.filter(|label| !label.is_empty());
        found.push((name.to_owned(), labels.map(str::to_owned).collect()));
    }
    found
}

fn assert_exists(expression: &str) {
    let metrics = metrics();
    for (name, labels) in selectors(expression) {
        let mut bare = ["_bucket", "_count", "_sum"].iter();
        let bare = bare.find_map(|suffix| name.strip_suffix(suffix));
        let known = metrics.get(&name).or_else(|| metrics.get(bare?));
        let known = known.unwrap_or_else(|| panic!("no metric {name}: {expression}"));
        for label in labels {
            let is_known = known.contains(&label) || label == "instance";
            assert!(is_known, "{name} has no label {label}: {expression}");
        }
    }
}

/// Every string under the key, wherever it stands.
fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|field| strings(field, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let text = read("config/grafana/rouse.json");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut expressions = Vec::new();
    strings(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() >= 20, "{}", expressions.len());
    expressions.into_iter().for_each(assert_exists);
}

#[test]
fn the_dashboard_leaves_no_metric_of_calls_out() {
    let text = read("config/grafana/rouse.json");
    for name in [
        "calls_total",
        "wake_seconds",
        "push_total",
        "bindings",
        "dropped_total",
    ] {
        assert!(text.contains(&format!("gateway_{name}")), "{name}");
    }
}

#[test]
fn the_alerts_watch_metrics_that_exist() {
    let rules = read("config/prometheus/rouse.rules.yml");
    assert!(rules.matches("- alert:").count() >= 8);
    assert!(selectors(&rules).len() >= 8);
    assert_exists(&rules);
}

#[test]
fn promtool_plays_the_alerts_where_it_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus");
    for (what, file) in [
        ("check", "rouse.rules.yml"),
        ("test", "rouse.rules_test.yml"),
    ] {
        let done = Command::new("promtool")
            .args([what, "rules", file])
            .current_dir(&folder)
            .output();
        // `make test-package` installs it.
        let Ok(done) = done else { return };
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{file}: {told}");
    }
}

#[test]
fn a_name_that_does_not_exist_is_found() {
    let wrong = std::panic::catch_unwind(|| assert_exists("rate(gateway_call_total[5m])"));
    assert!(wrong.is_err());
    let wrong = std::panic::catch_unwind(|| assert_exists("gateway_push_total{result=\"x\"}"));
    assert!(wrong.is_err());
}
