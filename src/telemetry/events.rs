//! The one place that maps an event to a metric and a log line.

use std::net::IpAddr;
use std::time::Duration;

use crate::proto::event::{Drop, Kept, KeptEnd, KeptOutcome, Oversize};
use crate::proto::push::params::NoPush;
use crate::proto::push::{Pns, PushError};
use crate::proto::registration::keep::KeepFailure;
use crate::proto::reject::Reject;
use crate::proto::sip::hexadecimal;
use crate::proto::{BindingKey, Event, Flow, FlowId, Transport};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::redact::Pii;

impl Metrics {
    /// Counts an event and writes its line.
    #[expect(clippy::too_many_lines, reason = "one arm per event, nothing else")]
    pub fn record(&self, event: &Event) {
        match event {
            Event::Registered {
                key,
                aor,
                flow,
                expires,
                is_new,
                is_moved: _,
            } => self.registered(*key, aor, flow, *expires, *is_new),
            Event::Shortened {
                aor,
                asked,
                granted,
            } => self.shortened(aor, *asked, *granted),
            Event::ChangedHands { key, aor } => self.changed_hands(*key, aor),
            Event::Unregistered { key, aor } => {
                self.registrations.of(["left"]).inc();
                tracing::info!(aor = %Pii(aor), wake = wake(*key), "device left");
            }
            Event::Expired { key, aor } => {
                self.registrations.of(["expired"]).inc();
                tracing::info!(aor = %Pii(aor), wake = wake(*key), "registration expired");
            }
            Event::Refreshed { key, aor, expires } => {
                self.refreshes.of(["done"]).inc();
                let (aor, expires) = (Pii(aor), expires.as_secs());
                tracing::debug!(%aor, wake = wake(*key), expires, "registration refreshed");
            }
            Event::RefreshFailed { key, aor, failure } => {
                self.refresh_failed(*key, aor, *failure);
            }
            Event::Asleep { key, aor } => {
                self.registrations.of(["asleep"]).inc();
                tracing::info!(aor = %Pii(aor), wake = wake(*key), "device asleep");
            }
            Event::NoPush { aor, reason } => self.cannot_wake(aor, *reason),
            Event::CallReceived {
                call: _,
                caller: _,
                call_id,
                aor,
                devices,
                asleep,
            } => {
                self.calls.inc();
                tracing::info!(%call_id, aor = %Pii(aor), devices, asleep, "call received");
            }
            Event::WakeStarted {
                call: _,
                call_id,
                key,
                pns,
            } => {
                let wake = wake(*key);
                tracing::info!(%call_id, wake, provider = pns.label(), "device is being woken");
            }
            Event::PushAccepted {
                key: _,
                pns,
                notice,
                after,
                provider_id,
            } => self.push_accepted(*pns, notice, *after, provider_id),
            Event::PushFailed {
                key: _,
                pns,
                notice,
                error,
            } => self.push_failed(*pns, notice, error),
            Event::Woken {
                call: _,
                call_id,
                key,
                after,
                flow: _,
            } => self.wake_ended("woken", call_id, *key, *after),
            Event::WakeTimedOut {
                call: _,
                call_id,
                key,
                after,
            } => self.wake_ended("timeout", call_id, *key, *after),
            Event::CallForwarded {
                call: _,
                call_id,
                key,
                flow,
            } => call_forwarded(call_id, *key, flow),
            Event::CallAnswered {
                call: _,
                call_id,
                status,
                after,
            } => {
                self.call_answers.of([status_class(*status)]).inc();
                tracing::info!(%call_id, status, after_ms = ms(*after), "call answered");
            }
            Event::CallEnded { call_id, is_phone } => {
                tracing::debug!(%call_id, is_phone, "call ended");
            }
            // For the timeline alone.
            Event::CallStep { .. } | Event::CallCancelled { .. } => {}
            Event::CallRefused {
                call_id,
                user,
                caller: _,
                reject,
            } => {
                let (aor, reason) = (Pii(user), reject.label());
                tracing::info!(%call_id, %aor, reason, "call refused");
            }
            Event::Kept { call_id, key, kind } => self.kept_begun(call_id, *key, *kind),
            Event::KeptEnded(end) => self.kept_ended(end),
            Event::Rejected { reject, flow } => {
                self.rejects.of([reject.label()]).inc();
                let (reason, flow) = (reject.label(), flow.remote);
                tracing::debug!(reason, %flow, "request refused");
            }
            Event::Offence {
                address,
                transport,
                reject,
                is_banned,
            } => self.offence(*address, *transport, *reject, *is_banned),
            Event::Dropped { place, flow } => self.drop_of(*place, flow.as_ref()),
            Event::Oversize { way, bytes } => self.oversize_by(*way, *bytes),
            Event::StoreFailed => tracing::warn!("a binding could not be made durable"),
            Event::NodeResolved { node, hops } => self.node_resolved(*node, *hops),
        }
    }

    fn registered(&self, key: BindingKey, aor: &str, flow: &Flow, expires: Duration, is_new: bool) {
        let kind = if is_new { "new" } else { "refresh" };
        self.registrations.of([kind]).inc();
        let (wake, aor, transport) = (wake(key), Pii(aor), flow.transport.label());
        let (flow, expires) = (Pii(flow.remote), expires.as_secs());
        if is_new {
            tracing::info!(%aor, wake, %flow, transport, expires, "device registered");
        } else {
            tracing::debug!(%aor, wake, %flow, transport, expires, "device registered again");
        }
    }

    fn oversize_by(&self, way: Oversize, bytes: usize) {
        self.oversize.of([way.label()]).inc();
        let way = way.label();
        tracing::debug!(way, bytes, "request too large for a datagram");
    }

    fn changed_hands(&self, key: BindingKey, aor: &str) {
        self.registrations.of(["changed-hands"]).inc();
        tracing::info!(aor = %Pii(aor), wake = wake(key), "device registered for another agent");
    }

    fn shortened(&self, aor: &str, asked: u32, granted: u32) {
        self.registrations.of(["shortened"]).inc();
        let aor = Pii(aor);
        tracing::info!(%aor, asked, granted, "upstream granted a shorter registration");
    }

    fn refresh_failed(&self, key: BindingKey, aor: &str, failure: KeepFailure) {
        let reason = failure.label();
        self.refreshes.of([reason]).inc();
        let (aor, wake) = (Pii(aor), wake(key));
        if failure.is_final() {
            tracing::warn!(%aor, wake, reason, "registrations of this agent are not refreshed");
        } else {
            tracing::info!(%aor, wake, reason, "registration not refreshed");
        }
    }

    fn cannot_wake(&self, aor: &str, reason: NoPush) {
        self.no_push.of([reason.label()]).inc();
        let (aor, reason) = (Pii(aor), reason.label());
        tracing::info!(%aor, reason, "device cannot be woken");
    }

    fn push_accepted(&self, pns: Pns, notice: &'static str, after: Duration, id: &str) {
        let provider = pns.label();
        self.pushes.of([provider, notice, "accepted"]).inc();
        self.push_seconds.observe(provider, after.as_secs_f64());
        tracing::info!(provider, notice, after_ms = ms(after), id, "push accepted");
    }

    fn push_failed(&self, pns: Pns, notice: &'static str, error: &PushError) {
        let (provider, outcome) = (pns.label(), error.label());
        self.pushes.of([provider, notice, outcome]).inc();
        match error {
            // An operator must act, or will want to know.
            PushError::BadCredentials { .. }
            | PushError::NotConfigured { .. }
            | PushError::Refused { .. }
            | PushError::Throttled { .. }
            | PushError::Unavailable { .. } => {
                tracing::warn!(provider, notice, %error, "push failed");
            }
            PushError::Unregistered { .. } | PushError::WrongToken { .. } => {
                tracing::info!(provider, notice, %error, "push failed");
            }
            PushError::Withdrawn => tracing::debug!(provider, notice, "push withdrawn"),
        }
    }

    fn wake_ended(&self, outcome: &'static str, call_id: &str, key: BindingKey, after: Duration) {
        self.wake_seconds.observe(outcome, after.as_secs_f64());
        let (wake, wake_ms) = (wake(key), ms(after));
        tracing::info!(call_id, wake, wake_ms, outcome, "wake ended");
    }

    fn kept_begun(&self, call_id: &str, key: BindingKey, kind: Kept) {
        self.kept.of([kind.label(), "kept"]).inc();
        let (wake, kind) = (wake(key), kind.label());
        tracing::info!(call_id, wake, kind, "kept for a sleeping device");
    }

    fn kept_ended(&self, end: &KeptEnd) {
        let (kind, outcome) = (end.kind.label(), end.outcome.label());
        self.kept.of([kind, outcome]).inc();
        let (call_id, wake, after_ms) = (&*end.call_id, wake(end.key), ms(end.after));
        let status = match end.outcome {
            KeptOutcome::Refused(status) => Some(status),
            KeptOutcome::Delivered
            | KeptOutcome::Expired
            | KeptOutcome::Unanswered
            | KeptOutcome::Replaced
            | KeptOutcome::Lost => None,
        };
        tracing::info!(
            call_id,
            wake,
            kind,
            outcome,
            status,
            after_ms,
            "kept request ended"
        );
    }

    /// The line that fail2ban reads (config/fail2ban): who has proved where it is, and offends, is
    /// named, since nobody could be kept out otherwise.
    fn offence(&self, address: IpAddr, transport: Transport, reject: Reject, is_banned: bool) {
        let (reason, transport) = (reject.label(), transport.label());
        if is_banned {
            self.bans.inc();
        }
        tracing::info!(target: "rouse::guard", %address, transport, reason, banned = is_banned, "offence");
    }

    fn drop_of(&self, place: Drop, flow: Option<&FlowId>) {
        let place = drop_label(place);
        self.dropped.of([place]).inc();
        let flow = flow.map(flow_name).unwrap_or_default();
        tracing::debug!(place, flow, "dropped");
    }

    fn node_resolved(&self, node: u16, hops: usize) {
        let addresses = i64::try_from(hops).unwrap_or(i64::MAX);
        self.node_addresses
            .get_or_create_owned(&[("node", node.to_string())])
            .set(addresses);
        if hops == 0 {
            tracing::warn!(node, "upstream node has no address");
        } else {
            tracing::debug!(node, hops, "upstream node resolved");
        }
    }
}

fn call_forwarded(call_id: &str, key: BindingKey, flow: &FlowId) {
    let (wake, flow) = (wake(key), Pii(flow_name(flow)));
    tracing::info!(call_id, wake, %flow, "call forwarded");
}

/// The label of a status: its first digit.
pub(crate) const fn status_class(status: u16) -> &'static str {
    match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        600..700 => "6xx",
        _ => "other",
    }
}

const fn drop_label(place: Drop) -> &'static str {
    match place {
        Drop::StrayResponse => "stray-response",
        Drop::ForgedResponse => "forged-response",
        Drop::StrayAck => "stray-ack",
        Drop::Malformed => "malformed",
        Drop::NoVia => "no-via",
        Drop::Stranger => "stranger",
        Drop::NoNextVia => "no-next-via",
        Drop::FlowGone => "flow-gone",
        Drop::Reflection => "reflection",
    }
}

/// A device's name in logs: its binding's number says nothing about whose it is.
fn wake(key: BindingKey) -> String {
    hexadecimal::<16>(key.binding.0)
        .map(char::from)
        .iter()
        .collect()
}

fn flow_name(flow: &FlowId) -> String {
    match flow {
        FlowId::Datagram { listener, remote } => format!("{}/{remote}", listener.0),
        FlowId::Stream(id) => format!("{:x}", id.0),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use bytes::Bytes;
    use parking_lot::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::proto::event::CallNumber;
    use crate::proto::{AorId, BindingId, ConnectionId, ListenerId, Transport};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Captured {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn no_number_and_no_address_is_logged_at_info() {
        let captured = Captured::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_writer(captured.clone())
            .finish();
        let metrics = Metrics::new();
        tracing::subscriber::with_default(subscriber, || {
            for event in events() {
                metrics.record(&event);
            }
        });
        let lines = String::from_utf8(captured.0.lock().clone()).unwrap();
        assert_eq!(lines.lines().count(), events().len(), "{lines}");
        assert!(lines.contains("..67#"), "{lines}");
        assert!(!lines.contains("1234567"), "{lines}");
        assert!(!lines.contains("192.0.2."), "{lines}");
    }

    fn events() -> Vec<Event> {
        let key = BindingKey {
            aor: AorId(1),
            binding: BindingId(2),
        };
        let aor: Box<str> = "+491234567@pbx.example.com".into();
        let remote = "192.0.2.7:5060".parse().unwrap();
        let listener = ListenerId(0);
        let flow = Flow {
            id: FlowId::Stream(ConnectionId(9)),
            listener,
            remote,
            transport: Transport::Tls,
        };
        let call_id: Box<str> = "one".into();
        vec![
            Event::Registered {
                key,
                aor: aor.clone(),
                flow,
                expires: Duration::from_secs(600),
                is_new: true,
                is_moved: true,
            },
            Event::Asleep {
                key,
                aor: aor.clone(),
            },
            Event::NoPush {
                aor: aor.clone(),
                reason: NoPush::Absent,
            },
            Event::CallReceived {
                call: CallNumber(1),
                caller: Bytes::from_static(b"sip:+491234567@pbx.example.com"),
                call_id: call_id.clone(),
                aor: aor.clone(),
                devices: 1,
                asleep: 1,
            },
            Event::CallForwarded {
                call: CallNumber(1),
                call_id,
                key,
                flow: FlowId::Datagram { listener, remote },
            },
            Event::Expired {
                key,
                aor: aor.clone(),
            },
            Event::ChangedHands {
                key,
                aor: aor.clone(),
            },
            Event::Shortened {
                aor: aor.clone(),
                asked: 2_678_400,
                granted: 86_400,
            },
            Event::RefreshFailed {
                key,
                aor: aor.clone(),
                failure: KeepFailure::WrongCredentials,
            },
            Event::RefreshFailed {
                key,
                aor: aor.clone(),
                failure: KeepFailure::Unavailable,
            },
            Event::Unregistered { key, aor },
        ]
    }
}
