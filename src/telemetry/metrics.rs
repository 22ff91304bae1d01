//! Every metric: its name, its labels, its help text. `docs/metrics.md` is made from this file.
//!
//! Labels are closed sets; never an agent, an address or a Call-ID. A family's label values are in
//! the order in which its label names are registered.

use std::fmt::Write as _;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// The prefix of every name.
const PREFIX: &str = "gateway";
/// From a phone that is awake already to one that needs a minute.
const WAKE_BUCKETS: [f64; 14] = [
    0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 25.0, 60.0,
];
/// From a warm HTTP/2 connection to a timeout.
const PUSH_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// From an idle shard to one that holds up its calls.
const LOOP_BUCKETS: [f64; 10] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1,
];

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    described: Vec<Description>,
    /// SIP requests received and sent.
    pub(crate) requests: CounterFamily<3>,
    /// SIP responses received and sent.
    pub(crate) responses: CounterFamily<3>,
    /// Requests refused by the gateway itself.
    pub(crate) rejects: CounterFamily<1>,
    /// Addresses that were banned for a time.
    pub(crate) bans: Counter,
    /// Calls for agents.
    pub(crate) calls: Counter,
    /// Final answers to calls for agents.
    pub(crate) call_answers: CounterFamily<1>,
    /// MESSAGE and NOTIFY requests kept for sleeping phones, and what became of them.
    pub(crate) kept: CounterFamily<2>,
    /// Time from a call's arrival until its phone has registered, or until the gateway gave up.
    pub(crate) wake_seconds: HistogramFamily,
    /// Pushes by what the provider said.
    pub(crate) pushes: CounterFamily<3>,
    /// Time until a provider took a push.
    pub(crate) push_seconds: HistogramFamily,
    /// Registrations by what they did: new, refresh, left, expired, asleep.
    pub(crate) registrations: CounterFamily<1>,
    /// Registrations of sleeping phones that the gateway refreshed itself, or could not.
    pub(crate) refreshes: CounterFamily<1>,
    /// Contacts that gave no way to wake their device.
    pub(crate) no_push: CounterFamily<1>,
    /// Requests above 1300 bytes, by the way that they went: stream, datagram, phone (a datagram).
    pub(crate) oversize: CounterFamily<1>,
    /// Writes to the store that somebody waited for.
    pub(crate) store_writes: CounterFamily<1>,
    /// Addresses found for upstream's nodes, by the node's number in file order.
    pub(crate) node_addresses: Family<[(&'static str, String); 1], Gauge>,
    /// Open stream connections.
    pub(crate) flows: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Stream connections that ended.
    pub(crate) flows_closed: CounterFamily<1>,
    /// Stream connections that were not taken or not opened.
    pub(crate) flows_refused: CounterFamily<1>,
    /// Keep-alives heard.
    pub(crate) keepalives: Counter,
    /// Changed TLS certificates.
    pub(crate) certificates: CounterFamily<1>,
    /// Messages, answers and keep-alives that were dropped.
    pub(crate) dropped: CounterFamily<1>,
    /// Time that a shard worked on a batch of inputs.
    pub(crate) loop_seconds: Histogram,
    /// Registered devices by state: awake (an open flow) or asleep.
    pub(crate) bindings: Family<[(&'static str, &'static str); 1], Gauge>,
    /// What is in flight by kind: transactions, response contexts, wakes.
    pub(crate) transactions: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Inputs that wait for a shard.
    pub(crate) input_queue: Family<[(&'static str, String); 1], Gauge>,
}

/// Counters by label values.
#[derive(Clone, Debug)]
pub(crate) struct CounterFamily<const N: usize> {
    names: [&'static str; N],
    family: Family<[(&'static str, &'static str); N], Counter>,
    /// Whether every series that there may be has been made.
    is_closed: bool,
}

/// Histograms by one label's value.
#[derive(Clone, Debug)]
pub(crate) struct HistogramFamily {
    label: &'static str,
    family: Family<[(&'static str, &'static str); 1], Histogram>,
}

/// One row of `docs/metrics.md`.
#[derive(Debug)]
struct Description {
    name: String,
    kind: &'static str,
    labels: Vec<&'static str>,
    help: &'static str,
}

impl Metrics {
    /// Registers every metric.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one entry per metric, nothing else")]
    pub fn new() -> Self {
        let mut r = Registrar {
            registry: Registry::with_prefix(PREFIX),
            described: Vec::new(),
        };
        let all = Self {
            requests: r.counters(
                "requests",
                ["method", "direction", "transport"],
                "SIP requests received and sent.",
            ),
            responses: r.counters(
                "responses",
                ["status_class", "direction", "transport"],
                "SIP responses received and sent.",
            ),
            rejects: r.counters(
                "rejects",
                ["reason"],
                "Requests refused by the gateway itself.",
            ),
            bans: r.counter("bans", "Addresses that were banned for a time."),
            calls: r.counter("calls", "Calls for agents."),
            call_answers: r.counters(
                "call_answers",
                ["status_class"],
                "Final answers to calls for agents.",
            ),
            kept: r.counters(
                "kept",
                ["kind", "outcome"],
                "MESSAGE and NOTIFY requests kept for sleeping phones, and what became of them.",
            ),
            wake_seconds: r.histograms(
                "wake_seconds",
                "outcome",
                "Time from a call's arrival until its phone has registered, or until the gateway gave up.",
                || Histogram::new(WAKE_BUCKETS),
            ),
            pushes: r.counters(
                "push",
                ["provider", "notice", "outcome"],
                "Pushes by what the provider said.",
            ),
            push_seconds: r.histograms(
                "push_seconds",
                "provider",
                "Time until a provider took a push.",
                || Histogram::new(PUSH_BUCKETS),
            ),
            registrations: r.counters(
                "registrations",
                ["kind"],
                "Registrations by what they did: new, refresh, left, expired, asleep.",
            ),
            refreshes: r.counters(
                "refreshes",
                ["outcome"],
                "Registrations of sleeping phones that the gateway refreshed itself, or could not.",
            ),
            no_push: r.counters(
                "no_push",
                ["reason"],
                "Contacts that gave no way to wake their device.",
            ),
            oversize: r.counters(
                "oversize",
                ["way"],
                "Requests above 1300 bytes, by the way that they went: stream, datagram, phone (a datagram).",
            ),
            store_writes: r.counters(
                "store_writes",
                ["outcome"],
                "Writes to the store that somebody waited for.",
            ),
            node_addresses: r.metric(
                "node_addresses",
                "gauge",
                &["node"],
                "Addresses found for upstream's nodes, by the node's number in file order.",
                Family::default(),
            ),
            flows: r.metric(
                "flows",
                "gauge",
                &["transport"],
                "Open stream connections.",
                Family::default(),
            ),
            flows_closed: r.counters("flows_closed", ["reason"], "Stream connections that ended."),
            flows_refused: r.counters(
                "flows_refused",
                ["reason"],
                "Stream connections that were not taken or not opened.",
            ),
            keepalives: r.counter("keepalives", "Keep-alives heard."),
            certificates: r.counters("certificates", ["outcome"], "Changed TLS certificates."),
            dropped: r.counters(
                "dropped",
                ["where"],
                "Messages, answers and keep-alives that were dropped.",
            ),
            loop_seconds: r.metric(
                "loop_seconds",
                "histogram",
                &[],
                "Time that a shard worked on a batch of inputs.",
                Histogram::new(LOOP_BUCKETS),
            ),
            bindings: r.metric(
                "bindings",
                "gauge",
                &["state"],
                "Registered devices by state: awake (an open flow) or asleep.",
                Family::default(),
            ),
            transactions: r.metric(
                "transactions",
                "gauge",
                &["kind"],
                "What is in flight by kind: transactions, response contexts, wakes.",
                Family::default(),
            ),
            input_queue: r.metric(
                "input_queue",
                "gauge",
                &["shard"],
                "Inputs that wait for a shard.",
                Family::default(),
            ),
            registry: r.registry,
            described: r.described,
        };
        all.begin()
    }

    pub(crate) fn flows_of(&self, transport: &'static str) -> Gauge {
        self.flows.get_or_create_owned(&[("transport", transport)])
    }

    pub(crate) fn input_queue_of(&self, shard: u16) -> Gauge {
        self.input_queue
            .get_or_create_owned(&[("shard", shard.to_string())])
    }

    /// Writes all metrics in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Dropped: writing to a string does not fail.
        if encode(&mut text, &self.registry).is_err() {
            tracing::warn!("metrics could not be written");
        }
        text
    }

    /// Writes `docs/metrics.md`.
    #[must_use]
    pub fn document(&self) -> String {
        let mut text = String::from(
            "# Metrics\n\n\
             Made from `src/telemetry/metrics.rs`; a test compares the two.\n\
             Labels are closed sets: never an agent, an address or a Call-ID. Series are there from the start, at 0:\n\
             those of pushes for the services that are configured. Requests and responses appear with their first one.\n\n\
             | Name | Type | Labels | Meaning |\n|---|---|---|---|\n",
        );
        for metric in &self.described {
            let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            let row = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind,
                labels.join(", "),
                metric.help
            );
            debug_assert!(row.is_ok(), "writing to a string does not fail");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> CounterFamily<N> {
    /// The counter with these label values.
    pub(crate) fn of(&self, values: [&'static str; N]) -> Counter {
        let mut labels = [("", ""); N];
        for (label, pair) in labels.iter_mut().zip(self.names.iter().zip(values)) {
            *label = (*pair.0, pair.1);
        }
        debug_assert!(
            !self.is_closed || self.family.get(&labels).is_some(),
            "series.rs does not have {labels:?}"
        );
        self.family.get_or_create_owned(&labels)
    }

    /// Makes these at 0; there are no others.
    pub(super) fn close(&mut self, all: impl IntoIterator<Item = [&'static str; N]>) {
        for values in all {
            self.of(values);
        }
        self.is_closed = true;
    }
}

impl HistogramFamily {
    /// Makes the one with this label, with nothing in it.
    pub(super) fn make(&self, value: &'static str) {
        self.family.get_or_create_owned(&[(self.label, value)]);
    }

    pub(crate) fn observe(&self, value: &'static str, seconds: f64) {
        self.family
            .get_or_create_owned(&[(self.label, value)])
            .observe(seconds);
    }
}

struct Registrar {
    registry: Registry,
    described: Vec<Description>,
}

impl Registrar {
    fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        self.metric(name, "counter", &[], help, Counter::default())
    }

    fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        names: [&'static str; N],
        help: &'static str,
    ) -> CounterFamily<N> {
        let family = self.metric(name, "counter", &names, help, Family::default());
        CounterFamily {
            names,
            family,
            is_closed: false,
        }
    }

    fn histograms(
        &mut self,
        name: &'static str,
        label: &'static str,
        help: &'static str,
        make: fn() -> Histogram,
    ) -> HistogramFamily {
        let family: Family<_, Histogram> = Family::new_with_constructor(make);
        let family = self.metric(name, "histogram", &[label], help, family);
        HistogramFamily { label, family }
    }

    fn metric<M: Metric + Clone>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        labels: &[&'static str],
        help: &'static str,
        metric: M,
    ) -> M {
        // The library adds the full stop and, to counters, the suffix.
        let short = help.strip_suffix('.').unwrap_or(help);
        self.registry.register(name, short, metric.clone());
        let suffix = if kind == "counter" { "_total" } else { "" };
        self.described.push(Description {
            name: format!("{PREFIX}_{name}{suffix}"),
            kind,
            labels: labels.to_vec(),
            help,
        });
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_code_does() {
        let page = include_str!("../../docs/metrics.md");
        let made = Metrics::new().document();
        assert!(page == made, "docs/metrics.md shall be:\n\n{made}");
    }

    #[test]
    fn each_help_text_is_the_doc_line_of_its_field() {
        let source = include_str!("metrics.rs");
        for metric in Metrics::new().described {
            let line = format!("    /// {}\n", metric.help);
            assert!(source.contains(&line), "{}", metric.name);
        }
    }

    #[test]
    fn a_counter_is_written_with_its_labels() {
        let metrics = Metrics::new();
        metrics.pushes.of(["apns", "call", "accepted"]).inc();
        let text = metrics.encode();
        let line = "gateway_push_total{provider=\"apns\",notice=\"call\",outcome=\"accepted\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
