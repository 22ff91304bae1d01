//! What happens to devices outside of calls.

use std::net::SocketAddr;
use std::time::Duration;

use super::step::{lasting, seconds};
use crate::io::admin::view::{DeviceNote, DeviceView, LastPush};
use crate::proto::push::{Pns, PushError};
use crate::proto::registration::keep::KeepFailure;
use crate::proto::{BindingKey, Event, Transport};

/// One note.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) at_ms: u64,
    pub(super) key: BindingKey,
    pub(super) happened: Happened,
}

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum Happened {
    Registered {
        from: SocketAddr,
        transport: Transport,
        expires: Duration,
        is_new: bool,
    },
    Asleep,
    Left,
    Expired,
    NotRefreshed(KeepFailure),
    ChangedHands,
    PushAccepted {
        pns: Pns,
        notice: &'static str,
        after: Duration,
        id: Box<str>,
    },
    PushFailed {
        pns: Pns,
        notice: &'static str,
        error: Box<PushError>,
    },
}

impl Happened {
    /// What an event says of a device, and whose that is. A registration that only lasts longer is
    /// not told: it would push out all else.
    pub(super) fn of(event: &Event) -> Option<(BindingKey, Option<&str>, Self)> {
        match event {
            Event::Registered {
                key,
                aor,
                flow,
                expires,
                is_new,
                is_moved,
            } => (*is_new || *is_moved).then(|| {
                let registered = Self::Registered {
                    from: flow.remote,
                    transport: flow.transport,
                    expires: *expires,
                    is_new: *is_new,
                };
                (*key, Some(&**aor), registered)
            }),
            Event::ChangedHands { key, aor } => Some((*key, Some(aor), Self::ChangedHands)),
            Event::Unregistered { key, aor } => Some((*key, Some(aor), Self::Left)),
            Event::Expired { key, aor } => Some((*key, Some(aor), Self::Expired)),
            Event::RefreshFailed { key, aor, failure } => {
                Some((*key, Some(aor), Self::NotRefreshed(*failure)))
            }
            Event::Asleep { key, aor } => Some((*key, Some(aor), Self::Asleep)),
            Event::PushAccepted {
                key,
                pns,
                notice,
                after,
                provider_id,
            } => {
                let accepted = Self::PushAccepted {
                    pns: *pns,
                    notice,
                    after: *after,
                    id: provider_id.clone(),
                };
                Some((*key, None, accepted))
            }
            Event::PushFailed {
                key,
                pns,
                notice,
                error,
            } => {
                let failed = Self::PushFailed {
                    pns: *pns,
                    notice,
                    error: Box::new(error.clone()),
                };
                Some((*key, None, failed))
            }
            Event::Shortened { .. }
            | Event::Refreshed { .. }
            | Event::NoPush { .. }
            | Event::CallReceived { .. }
            | Event::WakeStarted { .. }
            | Event::Woken { .. }
            | Event::WakeTimedOut { .. }
            | Event::CallForwarded { .. }
            | Event::CallAnswered { .. }
            | Event::CallStep { .. }
            | Event::CallCancelled { .. }
            | Event::CallEnded { .. }
            | Event::CallRefused { .. }
            | Event::Kept { .. }
            | Event::KeptEnded(_)
            | Event::Rejected { .. }
            | Event::Dropped { .. }
            | Event::Oversize { .. }
            | Event::StoreFailed
            | Event::NodeResolved { .. }
            | Event::Offence { .. } => None,
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Registered { is_new: true, .. } => "registered",
            Self::Registered { is_new: false, .. } => "came-back",
            Self::Asleep => "asleep",
            Self::Left => "left",
            Self::Expired => "expired",
            Self::NotRefreshed(_) => "not-refreshed",
            Self::ChangedHands => "changed-hands",
            Self::PushAccepted { .. } => "push-accepted",
            Self::PushFailed { .. } => "push-failed",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Registered {
                from,
                transport,
                expires,
                is_new,
            } => {
                let how = if *is_new {
                    "registered"
                } else {
                    "registered again"
                };
                let (transport, expires) = (transport.label(), expires.as_secs());
                format!("{how} from {from} ({transport}) for {expires} s")
            }
            Self::Asleep => "its connection closed: it sleeps".to_owned(),
            Self::Left => "it left".to_owned(),
            Self::Expired => "its registration ended: it is not known any more".to_owned(),
            Self::NotRefreshed(failure) => not_refreshed(*failure),
            Self::ChangedHands => "it registered for another agent".to_owned(),
            Self::PushAccepted {
                pns,
                notice,
                after,
                id,
            } => {
                let id = if id.is_empty() { "without an id" } else { id };
                let (pns, after) = (pns.label(), seconds(*after));
                format!("{pns} took a push ({notice}) after {after} ({id})")
            }
            Self::PushFailed { pns, notice, error } => {
                format!("{} did not take a push ({notice}): {error}", pns.label())
            }
        }
    }
}

impl Note {
    /// Puts it into words.
    pub(super) fn view(&self) -> DeviceNote {
        DeviceNote {
            at_ms: self.at_ms,
            kind: self.happened.kind().to_owned(),
            text: self.happened.text(),
        }
    }

    /// The push that it is about.
    pub(super) fn push(&self) -> Option<LastPush> {
        let (notice, verdict) = match &self.happened {
            Happened::PushAccepted { notice, .. } => (*notice, "accepted"),
            Happened::PushFailed { notice, error, .. } => (*notice, error.label()),
            Happened::Registered { .. }
            | Happened::Asleep
            | Happened::Left
            | Happened::Expired
            | Happened::NotRefreshed(_)
            | Happened::ChangedHands => return None,
        };
        Some(LastPush {
            at_ms: self.at_ms,
            notice: notice.to_owned(),
            verdict: verdict.to_owned(),
            text: self.happened.text(),
        })
    }
}

/// The first note of a device that was there before the gateway started; `None` if what is
/// remembered tells how it came.
#[must_use]
pub fn restored(device: &DeviceView, notes: &[DeviceNote], started_ms: u64) -> Option<DeviceNote> {
    if notes.iter().any(|note| note.kind == "registered") {
        return None;
    }
    let between = |from: u64, to: u64| lasting(Duration::from_millis(to.saturating_sub(from)));
    let text = if device.registered_ms < started_ms {
        format!(
            "restored when the gateway started: it had registered from {} ({}) {} before, for {} more",
            device.address,
            device.transport,
            between(device.registered_ms, started_ms),
            between(started_ms, device.expires_ms)
        )
    } else {
        "restored when the gateway started; it has registered again since".to_owned()
    };
    Some(DeviceNote {
        at_ms: started_ms,
        kind: "restored".to_owned(),
        text,
    })
}

/// Why the gateway did not refresh a registration, and what then.
fn not_refreshed(failure: KeepFailure) -> String {
    match failure {
        KeepFailure::WrongCredentials => {
            "its registration was not refreshed: the upstream does not take the credentials; it is \
             asked by pushes until they are changed and loaded"
                .to_owned()
        }
        KeepFailure::NoCredentials => {
            "its registration was not refreshed: there are no credentials for the realm that the \
             upstream asks for; it is asked by pushes"
                .to_owned()
        }
        KeepFailure::Refused(status) => format!(
            "its registration was not refreshed: the upstream answers {status}; it is asked by pushes"
        ),
        KeepFailure::Unavailable => {
            "its registration was not refreshed yet: the upstream gave no answer of use".to_owned()
        }
    }
}
