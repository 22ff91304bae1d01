//! The counters at a glance, read from the text that Prometheus reads too: one source for both.

use crate::io::admin::view::{Bucket, Count, Pushes, Summary, Wakes};

/// Reads the counters out of OpenMetrics text.
pub(super) fn of(text: &str) -> Summary {
    let mut summary = Summary::default();
    for sample in text.lines().filter_map(Sample::read) {
        let count = sample.count();
        match sample.name {
            "gateway_bindings" if sample.label("state") == "awake" => summary.devices_awake = count,
            "gateway_bindings" => summary.devices_asleep = count,
            "gateway_calls_total" => summary.calls = count,
            "gateway_call_answers_total" if count > 0 => {
                summary.answers.push(sample.counted("status_class"))
            }
            "gateway_rejects_total" if count > 0 => summary.rejects.push(sample.counted("reason")),
            "gateway_dropped_total" if count > 0 => summary.dropped.push(sample.counted("where")),
            "gateway_flows" => summary.connections.push(sample.counted("transport")),
            "gateway_push_total" if count > 0 => summary.pushes.push(Pushes {
                provider: sample.label("provider").to_owned(),
                notice: sample.label("notice").to_owned(),
                verdict: sample.label("outcome").to_owned(),
                count,
            }),
            "gateway_wake_seconds_count" => wakes(&mut summary, &sample).count = count,
            "gateway_wake_seconds_sum" => wakes(&mut summary, &sample).seconds = sample.value,
            "gateway_wake_seconds_bucket" => {
                let seconds = sample.label("le").parse().ok(); // +Inf: however long
                let seconds = seconds.filter(|seconds: &f64| seconds.is_finite());
                let bucket = Bucket { seconds, count };
                wakes(&mut summary, &sample).buckets.push(bucket);
            }
            _ => {}
        }
    }
    // What has not happened is not told.
    summary.wakes.retain(|wakes| wakes.count > 0);
    summary.sort();
    summary
}

impl Summary {
    /// The text's order is that of a hash map.
    fn sort(&mut self) {
        let lists = [
            &mut self.answers,
            &mut self.rejects,
            &mut self.dropped,
            &mut self.connections,
        ];
        for list in lists {
            list.sort_by(|a, b| a.label.cmp(&b.label));
        }
        self.wakes.sort_by(|a, b| a.outcome.cmp(&b.outcome));
        self.pushes.sort_by(|a, b| {
            let key = |push: &Pushes| {
                (
                    push.provider.clone(),
                    push.notice.clone(),
                    push.verdict.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
    }
}

fn wakes<'s>(summary: &'s mut Summary, sample: &Sample<'_>) -> &'s mut Wakes {
    let outcome = sample.label("outcome");
    let known = summary
        .wakes
        .iter()
        .position(|wakes| wakes.outcome == outcome);
    let at = known.unwrap_or_else(|| {
        summary.wakes.push(Wakes {
            outcome: outcome.to_owned(),
            ..Wakes::default()
        });
        summary.wakes.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "found, or just pushed")]
    &mut summary.wakes[at]
}

/// One line of the text.
struct Sample<'t> {
    name: &'t str,
    labels: &'t str,
    value: f64,
}

impl<'t> Sample<'t> {
    fn read(line: &'t str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        Some(Self {
            name,
            labels: labels.trim_end_matches('}'),
            value: value.parse().ok()?,
        })
    }

    /// The value of a label; ours contain neither quotes nor commas.
    fn label(&self, name: &str) -> &'t str {
        let pairs = self
            .labels
            .split(',')
            .filter_map(|pair| pair.split_once('='));
        let mut own = pairs.filter(|(known, _)| *known == name);
        own.next().map_or("", |(_, value)| value.trim_matches('"'))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters are whole, and below 2^53; a gauge below zero is none"
    )]
    const fn count(&self) -> u64 {
        self.value as u64
    }

    fn counted(&self, label: &str) -> Count {
        Count {
            label: self.label(label).to_owned(),
            count: self.count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn the_counters_are_read_as_they_are_written() {
        let metrics = Metrics::new();
        metrics.calls.inc();
        metrics.pushes.of(["apns", "call", "accepted"]).inc_by(3);
        metrics.pushes.of(["apns", "call", "accepted"]).inc_by(1);
        metrics.wake_seconds.observe("woken", 2.25);
        metrics.wake_seconds.observe("woken", 100.0);
        metrics.call_answers.of(["2xx"]).inc();
        metrics.flows_of("tls").set(7);
        let summary = of(&metrics.encode());
        assert_eq!(summary.calls, 1);
        let [push] = &summary.pushes[..] else {
            panic!("{:?}", summary.pushes)
        };
        assert_eq!(
            (&*push.provider, &*push.verdict, push.count),
            ("apns", "accepted", 4)
        );
        let [wakes] = &summary.wakes[..] else {
            panic!("{:?}", summary.wakes)
        };
        assert_eq!((wakes.count, wakes.seconds), (2, 102.25));
        assert_eq!(
            wakes
                .buckets
                .last()
                .map(|bucket| (bucket.seconds, bucket.count)),
            Some((None, 2))
        );
        assert_eq!(summary.answers[0].label, "2xx");
        assert_eq!(
            (&*summary.connections[0].label, summary.connections[0].count),
            ("tls", 7)
        );
    }
}
