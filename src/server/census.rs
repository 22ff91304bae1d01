//! What a shard holds, added up over all shards in gauges.

use prometheus_client::metrics::gauge::Gauge;

use crate::proto::Gateway;
use crate::telemetry::metrics::Metrics;

/// One shard's part of the gauges.
#[derive(Debug)]
pub(super) struct Census {
    /// Each gauge, and what this shard has put into it.
    parts: [(Gauge, i64); 6],
}

impl Census {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let binding = |state| metrics.bindings.get_or_create_owned(&[("state", state)]);
        let flight = |kind| metrics.transactions.get_or_create_owned(&[("kind", kind)]);
        Self {
            parts: [
                (binding("awake"), 0),
                (binding("asleep"), 0),
                (flight("response-context"), 0),
                (flight("server"), 0),
                (flight("client"), 0),
                (flight("wake"), 0),
            ],
        }
    }

    /// Counts again.
    pub(super) fn take(&mut self, gateway: &Gateway) {
        let (all, awake) = gateway.location().count();
        let [contexts, servers, clients, wakes, _, _] = gateway.in_flight();
        let asleep = all.saturating_sub(awake);
        let counted = [awake, asleep, contexts, servers, clients, wakes];
        for ((gauge, part), counted) in self.parts.iter_mut().zip(counted) {
            let counted = i64::try_from(counted).unwrap_or(i64::MAX);
            gauge.inc_by(counted.saturating_sub(*part));
            *part = counted;
        }
    }
}
