//! Calls that nobody answered: by choice the user of each device that was not reached is told by a
//! push, never by a VoIP one.
//!
//! A device that was called knows of the call itself. Nothing was missed when the call was answered
//! elsewhere, here or by the caller's word (RFC 3326), or declined for all (6xx).

use std::time::Duration;

use crate::proto::BindingKey;
use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::best_response::Best;
use crate::proto::proxy::response_context::{Branch, Phase, ResponseContext};
use crate::proto::push::Notice;
use crate::proto::sip::Params;

/// How long it is worth telling: a phone that was off over night is told in the morning.
const LIFETIME: Duration = Duration::from_secs(86_400);

impl Proxy {
    /// Whether a call that is ending will count as missed.
    pub(super) fn will_be_missed(&self, context: &ResponseContext) -> bool {
        let status = context.best.as_ref().map_or(0, Best::status);
        self.settings.wake.missed_call_push
            && context.phase != Phase::Answered
            && !context.is_elsewhere
            && !matches!(status, 200..=299 | 600..=699)
    }

    /// A call for an agent has ended with this status: whoever was not reached is told if it was
    /// missed.
    pub(super) fn tell_missed(
        &mut self,
        fx: &mut Effects<'_>,
        context: &ResponseContext,
        status: u16,
    ) {
        if !self.settings.wake.missed_call_push
            || context.is_elsewhere
            || matches!(status, 200..=299 | 600..=699)
        {
            return;
        }
        let not_reached = |branch: &&Branch| !branch.is_reached;
        let missed = context.branches.iter().filter(not_reached);
        for key in missed.filter_map(Branch::device) {
            self.tell_device(fx, context, key);
        }
    }

    fn tell_device(&mut self, fx: &mut Effects<'_>, context: &ResponseContext, key: BindingKey) {
        let mut call = self.call_notice(fx, context, key, Duration::ZERO);
        let since = fx.now.saturating_duration_since(context.started);
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        call.sent_at_ms = call.sent_at_ms.saturating_sub(since);
        self.notify(fx, key, Notice::Missed(call), LIFETIME);
    }
}

/// Whether a CANCEL's Reason says that somebody else answered: 200 of SIP (RFC 3326 §3.1), or 26 of
/// Q.850, which is chan_sip's word for it.
pub(super) fn is_elsewhere(reason: &[u8]) -> bool {
    let reason = reason.trim_ascii();
    let (protocol, params) = match reason.iter().position(|byte| *byte == b';') {
        Some(at) => reason.split_at(at),
        None => return false,
    };
    let cause = Params::new(params).value("cause");
    let is_of = |name: &[u8]| protocol.trim_ascii().eq_ignore_ascii_case(name);
    (is_of(b"SIP") && cause == Some(b"200")) || (is_of(b"Q.850") && cause == Some(b"26"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_that_another_answered_is_elsewhere() {
        for reason in [
            "SIP;cause=200;text=\"Call completed elsewhere\"",
            "sip ;cause=200",
            "Q.850;cause=26",
        ] {
            assert!(is_elsewhere(reason.as_bytes()), "{reason}");
        }
        for reason in [
            "Q.850;cause=16",
            "SIP;cause=487",
            "Q.850;cause=200",
            "SIP",
            "",
        ] {
            assert!(!is_elsewhere(reason.as_bytes()), "{reason}");
        }
    }
}
