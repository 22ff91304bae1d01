//! The steps of a call as they are kept: small, written at once, put into words only when asked.

use std::net::SocketAddr;
use std::time::Duration;

use crate::io::admin::view::{Party, StepView};
use crate::proto::event::Asleep;
use crate::proto::push::{Pns, PushError};
use crate::proto::reject::Reject;
use crate::proto::{BindingKey, Transport};

/// One step.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Milliseconds after the call's arrival.
    pub(super) at_ms: u32,
    /// The device by its place in the call's list.
    pub(super) device: Option<u8>,
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The INVITE came.
    Received,
    /// The device was asked whether it lives.
    Asked,
    /// The device has to register first.
    Waits(Asleep),
    /// A push was sent to it.
    Pushed(Pns),
    /// A push for it was under way.
    Joined,
    /// It was pushed too often lately.
    Limited(Duration),
    /// The push service took the push.
    Accepted {
        pns: Pns,
        after: Duration,
        id: Box<str>,
    },
    /// It did not.
    PushFailed { pns: Pns, error: Box<PushError> },
    /// The device registered.
    Woken {
        after: Duration,
        from: Option<(SocketAddr, Transport)>,
    },
    /// It did not in time.
    TimedOut(Duration),
    /// The INVITE went out to it.
    Forwarded,
    /// It said something before its answer.
    Ringing(u16),
    /// Its final answer.
    Answered(u16),
    /// It is tried no longer.
    Failed(Reject),
    /// It came when the call was over.
    CameLate,
    /// The caller gave up.
    Cancelled(bool),
    /// The gateway refused the call.
    Refused(Reject),
    /// The final answer went up.
    Ended(u16),
    /// The phone hung up, or the other side did.
    HungUp(bool),
}

impl What {
    /// The word in JSON.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Asked => "asked",
            Self::Waits(_) => "asleep",
            Self::Pushed(_) => "pushed",
            Self::Joined => "push-shared",
            Self::Limited(_) => "push-limited",
            Self::Accepted { .. } => "push-accepted",
            Self::PushFailed { .. } => "push-failed",
            Self::Woken { .. } => "woken",
            Self::TimedOut(_) => "wake-timeout",
            Self::Forwarded => "forwarded",
            Self::Ringing(_) => "ringing",
            Self::Answered(_) => "device-answered",
            Self::Failed(_) => "device-failed",
            Self::CameLate => "came-late",
            Self::Cancelled(_) => "cancelled",
            Self::Refused(_) => "refused",
            Self::Ended(_) => "answered",
            Self::HungUp(_) => "hung-up",
        }
    }

    /// From whom to whom.
    const fn parties(&self) -> (Party, Party) {
        match self {
            Self::Received | Self::Cancelled(_) | Self::HungUp(false) => {
                (Party::Asterisk, Party::Rouse)
            }
            Self::Asked | Self::Forwarded => (Party::Rouse, Party::Device),
            Self::Pushed(_) => (Party::Rouse, Party::Push),
            Self::Accepted { .. } | Self::PushFailed { .. } => (Party::Push, Party::Rouse),
            Self::Woken { .. }
            | Self::Ringing(_)
            | Self::Answered(_)
            | Self::CameLate
            | Self::HungUp(true) => (Party::Device, Party::Rouse),
            Self::Waits(_)
            | Self::Joined
            | Self::Limited(_)
            | Self::TimedOut(_)
            | Self::Failed(_) => (Party::Rouse, Party::Rouse),
            Self::Refused(_) | Self::Ended(_) => (Party::Rouse, Party::Asterisk),
        }
    }

    /// A few words.
    fn label(&self) -> String {
        match self {
            Self::Received => "INVITE".to_owned(),
            Self::Asked => "OPTIONS".to_owned(),
            Self::Waits(_) => "asleep".to_owned(),
            Self::Pushed(pns) => format!("push ({})", pns.label()),
            Self::Joined => "push is under way".to_owned(),
            Self::Limited(_) => "pushed too often".to_owned(),
            Self::Accepted { .. } => "push accepted".to_owned(),
            Self::PushFailed { error, .. } => format!("push {}", error.label()),
            Self::Woken { .. } => "REGISTER".to_owned(),
            Self::TimedOut(_) => "gave up waiting".to_owned(),
            Self::Forwarded => "INVITE".to_owned(),
            Self::Ringing(status) | Self::Answered(status) | Self::Ended(status) => answer(*status),
            Self::Failed(reject) => reject.label().to_owned(),
            Self::CameLate => "REGISTER, too late".to_owned(),
            Self::Cancelled(_) => "CANCEL".to_owned(),
            Self::HungUp(_) => "BYE".to_owned(),
            Self::Refused(reject) => answer(reject.status().0),
        }
    }

    /// A sentence.
    pub(super) fn text(&self, device: &str) -> String {
        match self {
            Self::Received => "Asterisk's INVITE came in".to_owned(),
            Self::Asked => format!(
                "{device} has an open connection that was silent lately: it was asked whether it lives"
            ),
            Self::Waits(why) => format!("{device} {}", asleep(*why)),
            Self::Pushed(pns) => format!("a push for {device} went to {}", pns.label()),
            Self::Joined => format!("a push for {device} was under way already: none was sent"),
            Self::Limited(after) => format!(
                "{device} was pushed too often lately: the next push may go in {}",
                seconds(*after)
            ),
            Self::Accepted { pns, after, id } => {
                let id = if id.is_empty() { "without an id" } else { id };
                format!(
                    "{} took the push after {} ({id})",
                    pns.label(),
                    seconds(*after)
                )
            }
            Self::PushFailed { pns, error } => {
                format!("{} did not take the push: {error}", pns.label())
            }
            Self::Woken {
                after,
                from: Some((address, transport)),
            } => format!(
                "{device} registered from {address} ({}), {} after it was called",
                transport.label(),
                seconds(*after)
            ),
            Self::Woken { after, from: None } => {
                format!(
                    "{device} registered {} after it was called",
                    seconds(*after)
                )
            }
            Self::TimedOut(after) => {
                format!("{device} did not register within {}", seconds(*after))
            }
            Self::Forwarded => format!("the INVITE went out to {device}"),
            Self::Ringing(status) => format!("{device} says {}", answer(*status)),
            Self::Answered(status) => format!("{device} answers {}", answer(*status)),
            Self::Failed(reject) => format!("{device}: {}", refusal(*reject)),
            Self::CameLate => format!("{device} registered when the call was over: it was told so"),
            Self::Cancelled(true) => {
                "the caller's side says that somebody else has answered".to_owned()
            }
            Self::Cancelled(false) => "the caller hung up".to_owned(),
            Self::Refused(reject) => format!("refused: {}", refusal(*reject)),
            Self::Ended(status) => format!("Asterisk was answered {}", answer(*status)),
            Self::HungUp(true) => format!("{device} hung up"),
            Self::HungUp(false) => "the other side hung up".to_owned(),
        }
    }
}

impl Kept {
    /// Puts it into words.
    pub(super) fn view(&self, devices: &[BindingKey]) -> StepView {
        let device = self.device.and_then(|at| devices.get(usize::from(at)));
        let (from, to) = self.what.parties();
        let named = device.map_or_else(|| "the device".to_owned(), |key| named(*key));
        StepView {
            at_ms: u64::from(self.at_ms),
            kind: self.what.kind().to_owned(),
            from,
            to,
            device: device.map(|key| device_id(*key)),
            label: self.what.label(),
            text: self.what.text(&named),
        }
    }
}

/// A device's name in the API: whose it is, and which.
#[must_use]
pub fn device_id(key: BindingKey) -> String {
    format!("{:016x}-{:016x}", key.aor.0, key.binding.0)
}

/// Reads a device's name.
#[must_use]
pub fn device_key(id: &str) -> Option<BindingKey> {
    let (aor, binding) = id.split_once('-')?;
    let number = |text: &str| {
        let is_whole = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        is_whole
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
    };
    Some(BindingKey {
        aor: crate::proto::AorId(number(aor)?),
        binding: crate::proto::BindingId(number(binding)?),
    })
}

/// A device as sentences name it: the end of its number, as in the log.
pub(super) fn named(key: BindingKey) -> String {
    format!("device {:08x}", key.binding.0 >> 32)
}

/// A time as people read it.
pub(super) fn seconds(time: Duration) -> String {
    let ms = time.as_millis();
    if ms < 1000 {
        format!("{ms} ms")
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// How long a call lasted, as people read it.
pub(super) fn lasting(time: Duration) -> String {
    let all = time.as_secs();
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, 0, _) if all < 10 => seconds(time),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Who hung up.
pub(super) const fn hung_up_by(is_phone: bool) -> &'static str {
    if is_phone {
        "the phone"
    } else {
        "the other side"
    }
}

/// A status with its usual phrase.
pub(super) fn answer(status: u16) -> String {
    let phrase = match status {
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        480 => "Temporarily Unavailable",
        481 => "Call Does Not Exist",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        500 => "Server Internal Error",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        600 => "Busy Everywhere",
        603 => "Decline",
        _ => return status.to_string(),
    };
    format!("{status} {phrase}")
}

/// Why a device has to be woken.
pub(super) const fn asleep(why: Asleep) -> &'static str {
    match why {
        Asleep::NoFlow => "sleeps: it has no open connection",
        Asleep::Silent => "sleeps: its connection did not answer",
        Asleep::Unheard => "did not react to its INVITE: it is woken beside it",
        Asleep::Lost => "was lost: its connection ended under the INVITE",
    }
}

/// Refusals as they are told to those who have not read the table; the others speak for themselves.
const REFUSALS: [(Reject, &str); 16] = [
    (
        Reject::UnknownAgent,
        "nobody has registered that agent here",
    ),
    (
        Reject::NoDevice,
        "the agent has no device that can be reached: none is registered, or its app gave no way to wake it",
    ),
    (
        Reject::NotWoken,
        "it did not register in time after its push",
    ),
    (Reject::PushFailed, "the push service did not take the push"),
    (
        Reject::RegistrationRefused,
        "it woke, but Asterisk refused its registration",
    ),
    (Reject::NoAnswer, "it did not answer in time"),
    (
        Reject::TooManyHeld,
        "too many calls wait for this agent already",
    ),
    (
        Reject::Draining,
        "the gateway is about to stop and takes no new calls",
    ),
    (Reject::Overloaded, "the gateway is overloaded"),
    (
        Reject::Shed,
        "more arrives than the gateway can handle: it takes no new calls",
    ),
    (Reject::SipsNotAllowed, "a sips call needs TLS all the way"),
    (Reject::CalleeUnavailable, "it answered 503"),
    (Reject::Forbidden, "whoever sent it may not call this agent"),
    (Reject::Cancelled, "the caller hung up"),
    (
        Reject::LoopDetected,
        "the call came back to where it had been",
    ),
    (
        Reject::MaxBreadth,
        "the agent has more devices than the call may be forked to",
    ),
];

/// Why something was refused.
pub(super) fn refusal(reject: Reject) -> String {
    let told = REFUSALS.iter().find(|(known, _)| *known == reject);
    told.map_or_else(
        || format!("{} ({})", reject.status().1.to_lowercase(), reject.label()),
        |(_, told)| (*told).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AorId, BindingId};

    #[test]
    fn a_devices_name_is_read_as_it_is_written() {
        let key = BindingKey {
            aor: AorId(0x0123_4567_89ab_cdef),
            binding: BindingId(7),
        };
        let id = device_id(key);
        assert_eq!(id, "0123456789abcdef-0000000000000007");
        assert_eq!(device_key(&id), Some(key));
        for wrong in [
            "",
            "-",
            "1-2",
            "+123456789abcdef-0000000000000007",
            "0123456789abcdef",
        ] {
            assert_eq!(device_key(wrong), None, "{wrong}");
        }
    }
}
