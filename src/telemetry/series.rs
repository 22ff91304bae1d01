//! The series that exist from the start, at 0: Prometheus' `rate` and `increase` see only what changes
//! in a series that is there, so that the first event of one that is made for it is lost on them.
//!
//! Requests and responses by method and transport are left out: hundreds, of which few are used.
//! A family that is made here is closed: builds with debug assertions refuse a label that is not
//! in its list.

use crate::proto::event::{Kept, KeptOutcome, Oversize};
use crate::proto::push::Pns;
use crate::proto::push::params::NoPush;
use crate::proto::registration::keep::KeepFailure;
use crate::proto::reject::Reject;
use crate::telemetry::metrics::Metrics;

const NOTICES: [&str; 6] = ["call", "cancel", "missed", "message", "refresh", "wake"];
const VERDICTS: [&str; 9] = [
    "accepted",
    "unregistered",
    "wrong-token",
    "bad-credentials",
    "throttled",
    "unavailable",
    "refused",
    "not-configured",
    "withdrawn",
];
const REGISTRATIONS: [&str; 7] = [
    "new",
    "refresh",
    "left",
    "expired",
    "asleep",
    "changed-hands",
    "shortened",
];
const ANSWERS: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "6xx"];
const WRITES: [&str; 3] = ["durable", "failed", "refused"];
const WAKES: [&str; 2] = ["woken", "timeout"];
const WAYS: [Oversize; 3] = [Oversize::Datagram, Oversize::Phone, Oversize::Stream];
const REFRESHES: [KeepFailure; 4] = [
    KeepFailure::WrongCredentials,
    KeepFailure::NoCredentials,
    KeepFailure::Refused(0),
    KeepFailure::Unavailable,
];
const KEPT: [KeptOutcome; 6] = [
    KeptOutcome::Delivered,
    KeptOutcome::Refused(0),
    KeptOutcome::Expired,
    KeptOutcome::Unanswered,
    KeptOutcome::Replaced,
    KeptOutcome::Lost,
];
const NO_PUSH: [NoPush; 11] = [
    NoPush::Absent,
    NoPush::Query,
    NoPush::UnknownProvider,
    NoPush::BadToken,
    NoPush::BadParam,
    NoPush::NoAlertToken,
    NoPush::NotConfigured,
    NoPush::ForbiddenHost,
    NoPush::RateLimited,
    NoPush::NearerProxy,
    NoPush::TooShort,
];
const REJECTS: [Reject; 42] = [
    Reject::Malformed,
    Reject::TooManyHops,
    Reject::LoopDetected,
    Reject::MaxBreadth,
    Reject::BadExtension,
    Reject::UnsupportedScheme,
    Reject::Version,
    Reject::Forbidden,
    Reject::UnknownAgent,
    Reject::NoDevice,
    Reject::NotWoken,
    Reject::PushFailed,
    Reject::RegistrationRefused,
    Reject::TooBrief,
    Reject::UnsupportedPns,
    Reject::UnknownDomain,
    Reject::NoUpstream,
    Reject::NoAnswer,
    Reject::UpstreamSilent,
    Reject::FlowFailed,
    Reject::SipsNotAllowed,
    Reject::NoOutbound,
    Reject::CalleeUnavailable,
    Reject::ForeignRoute,
    Reject::NoSuchTransaction,
    Reject::TooManyDevices,
    Reject::TooManyHeld,
    Reject::TooMuchKept,
    Reject::DialogAsleep,
    Reject::Overloaded,
    Reject::Shed,
    Reject::NotDurable,
    Reject::Draining,
    Reject::TooLarge,
    Reject::Cancelled,
    Reject::Banned,
    Reject::Scanner,
    Reject::TooFast,
    Reject::AgentTooFast,
    Reject::TooManyFailures,
    Reject::TooManyRegisters,
    Reject::WrongCredentials,
];

impl Metrics {
    /// Makes what any gateway may count, but for pushes.
    pub(super) fn begin(self) -> Self {
        let mut metrics = self;
        metrics
            .rejects
            .close(REJECTS.map(|reject| [reject.label()]));
        metrics
            .no_push
            .close(NO_PUSH.map(|reason| [reason.label()]));
        metrics
            .registrations
            .close(REGISTRATIONS.map(|kind| [kind]));
        metrics.call_answers.close(ANSWERS.map(|class| [class]));
        metrics.store_writes.close(WRITES.map(|outcome| [outcome]));
        metrics.oversize.close(WAYS.map(|way| [way.label()]));
        let failures = REFRESHES.iter().map(|failure| failure.label());
        let refreshes = failures.chain(["done"]);
        metrics.refreshes.close(refreshes.map(|outcome| [outcome]));
        let outcomes = KEPT.iter().map(|outcome| outcome.label());
        let outcomes = outcomes.chain(["kept"]);
        let kept = outcomes
            .flat_map(|outcome| [Kept::Message, Kept::Notify].map(|kind| [kind.label(), outcome]));
        metrics.kept.close(kept);
        for outcome in WAKES {
            metrics.wake_seconds.make(outcome);
        }
        metrics
    }

    /// Makes what is counted of pushes by these services.
    pub(crate) fn expect_pushes(&self, services: impl IntoIterator<Item = Pns>) {
        for pns in services {
            let provider = pns.label();
            self.push_seconds.make(provider);
            for (notice, verdict) in NOTICES
                .iter()
                .flat_map(|n| VERDICTS.iter().map(move |v| (n, v)))
            {
                self.pushes.of([provider, notice, verdict]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_counted_is_there_at_zero() {
        let metrics = Metrics::new();
        metrics.expect_pushes([Pns::Fcm]);
        let text = metrics.encode();
        for series in [
            r#"gateway_rejects_total{reason="not-woken"} 0"#,
            r#"gateway_call_answers_total{status_class="2xx"} 0"#,
            r#"gateway_store_writes_total{outcome="failed"} 0"#,
            r#"gateway_wake_seconds_count{outcome="timeout"} 0"#,
            r#"gateway_kept_total{kind="message",outcome="expired"} 0"#,
            r#"gateway_refreshes_total{outcome="wrong-credentials"} 0"#,
            r#"gateway_push_total{provider="fcm",notice="call",outcome="bad-credentials"} 0"#,
            r#"gateway_push_seconds_count{provider="fcm"} 0"#,
        ] {
            assert!(text.contains(&format!("{series}\n")), "{series}\n{text}");
        }
        assert!(!text.contains("apns"), "{text}");
    }

    #[test]
    fn each_label_of_the_sources_is_in_a_list() {
        let source = include_str!("../proto/reject.rs");
        let table = source.split("fn label").nth(1).unwrap();
        let labels = table.lines().filter_map(|line| line.split('"').nth(1));
        let mut known: Vec<&str> = REJECTS.iter().map(|reject| reject.label()).collect();
        known.sort_unstable();
        let mut labels: Vec<&str> = labels.collect();
        labels.sort_unstable();
        assert_eq!(known, labels);
    }

    #[test]
    #[should_panic(expected = "series.rs")]
    fn a_label_that_is_in_no_list_is_noticed() {
        Metrics::new().rejects.of(["no-such-reason"]);
    }
}
