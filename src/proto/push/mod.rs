//! Waking a phone through its push notification service (RFC 8599).
//!
//! `params` reads pn-* parameters, `wake` keeps one push per device and those who wait for it,
//! `rate` bounds how often a device is pushed,
//! `refresh` decides when a sleeping binding is asked to re-register. What a push carries is typed
//! here; `io::pns` turns it into a provider's request.

use std::fmt;
use std::time::Duration;

pub mod params;
pub mod rate;
pub mod refresh;
pub mod wake;

/// A push notification service (RFC 8599 §14.5; `apns.dev` is Linphone's name for the sandbox).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pns {
    /// Apple, production.
    Apns,
    /// Apple, development.
    ApnsSandbox,
    /// Google, HTTP v1.
    Fcm,
    /// A browser's push service (RFC 8030), whichever its subscription names.
    WebPush,
    /// A service of the operator's own, by a name that the operator gave it.
    Webhook,
}

impl Pns {
    /// Those that have one name everywhere: the value of `pn-provider` and of `+sip.pns`
    /// (RFC 8599 §14.5).
    pub const NAMED: [(Self, &'static str); 4] = [
        (Self::Apns, "apns"),
        (Self::ApnsSandbox, "apns.dev"),
        (Self::Fcm, "fcm"),
        (Self::WebPush, "webpush"),
    ];

    /// Reads a provider's name, in any case; one that is not everybody's is an operator's own.
    #[must_use]
    pub fn of_provider(name: &str) -> Self {
        Self::NAMED
            .into_iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map_or(Self::Webhook, |(pns, _)| pns)
    }

    /// Whether a call's push obliges the app to show a call, whatever has become of it since: a
    /// VoIP push does.
    #[must_use]
    pub const fn shows_calls(self) -> bool {
        match self {
            Self::Apns | Self::ApnsSandbox => true,
            Self::Fcm | Self::WebPush | Self::Webhook => false,
        }
    }

    /// The label in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::ApnsSandbox => "apns-sandbox",
            Self::Fcm => "fcm",
            Self::WebPush => "webpush",
            Self::Webhook => "webhook",
        }
    }
}

/// A device token or registration token: a secret that its `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prid(Box<str>);

impl Prid {
    /// Wraps a token as the device sent it, unescaped.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(token.into())
    }

    /// The token itself, for the provider's request and the store only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Prid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prid({} bytes)", self.0.len())
    }
}

/// Where one push goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PushTarget {
    /// The service.
    pub pns: Pns,
    /// APNs: the bundle id, without `.voip`. FCM: the project id, empty if the device named none.
    /// Web Push: the host of the subscription. Webhook: the provider's name.
    pub app: Box<str>,
    /// See [`params::PushParams::detail`].
    pub detail: Option<Box<str>>,
    /// The token for this kind of push.
    pub token: Prid,
}

/// Names one push; chosen by the shard, unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PushId {
    /// The shard that waits for the verdict.
    pub shard: u16,
    /// Its number there.
    pub number: u64,
}

/// A push to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRequest {
    /// Its name; the verdict carries it.
    pub id: PushId,
    /// Where to.
    pub target: PushTarget,
    /// What it says.
    pub notice: Notice,
    /// How long it is worth delivering, from now.
    pub lifetime: Duration,
}

/// What a push says to the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A call waits: the app must show it and register.
    Call(CallNotice),
    /// That call is over before the app answered.
    Cancel(CallNotice),
    /// A call is over that nobody answered.
    Missed(CallNotice),
    /// A text message waits: the app registers and receives it.
    Message(MessageNotice),
    /// Register again: your registration is about to end.
    Refresh,
    /// Register now: a request that shows nothing waits, no longer than its sender does.
    Wake,
}

impl Notice {
    /// The value of the payload's `event`, and the label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::Cancel(_) => "cancel",
            Self::Missed(_) => "missed",
            Self::Message(_) => "message",
            Self::Refresh => "refresh",
            Self::Wake => "wake",
        }
    }
}

/// A call, as a push describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallNotice {
    /// The Call-ID of the INVITE that the app will receive.
    pub call_id: Box<str>,
    /// The caller's URI.
    pub from_uri: Box<str>,
    /// The caller's display name, unquoted; empty if there is none.
    pub display_name: Box<str>,
    /// The called account, `user@domain`.
    pub to: Box<str>,
    /// Whether the offer has a video stream.
    pub video: bool,
    /// Whether somebody else has answered it: of a call that is over.
    pub answered_elsewhere: bool,
    /// When the call arrived, milliseconds since the Unix epoch.
    pub sent_at_ms: u64,
    /// When the call stops waiting for this phone, milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

/// A text message, as a push describes it: never its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageNotice {
    /// The Call-ID of the MESSAGE that the app will receive.
    pub call_id: Box<str>,
    /// The sender's URI.
    pub from_uri: Box<str>,
    /// The sender's display name, unquoted; empty if there is none.
    pub display_name: Box<str>,
    /// The account that it is for, `user@domain`.
    pub to: Box<str>,
    /// When it arrived, milliseconds since the Unix epoch.
    pub sent_at_ms: u64,
    /// Until when it waits for this phone, milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

/// What the provider said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushAccepted {
    /// The provider's name for the push: `apns-id`, or FCM's message name.
    pub provider_id: Box<str>,
}

/// Why a push failed, by what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The token is dead. APNs says since when (milliseconds since the Unix epoch): a device that
    /// registered later has a live one.
    #[error("the token is no longer registered ({reason})")]
    Unregistered {
        /// Since when.
        since_ms: Option<u64>,
        /// The provider's word.
        reason: Reason,
    },
    /// The token is not one for this topic, project or environment.
    #[error("the token does not belong here ({reason})")]
    WrongToken {
        /// The provider's word.
        reason: Reason,
    },
    /// Our key, certificate or account was refused: an operator must act.
    #[error("the provider refused our credentials ({reason})")]
    BadCredentials {
        /// The provider's word.
        reason: Reason,
    },
    /// Too many pushes: not before `retry_after`.
    #[error("throttled by the provider ({reason})")]
    Throttled {
        /// How long to wait.
        retry_after: Duration,
        /// The provider's word.
        reason: Reason,
    },
    /// The provider cannot be reached or is failing.
    #[error("the provider is unavailable ({reason})")]
    Unavailable {
        /// How long to wait, if it said so.
        retry_after: Option<Duration>,
        /// The provider's word, or what broke.
        reason: Reason,
    },
    /// The request itself was refused: our fault.
    #[error("the provider refused the request ({reason})")]
    Refused {
        /// The provider's word.
        reason: Reason,
    },
    /// It was of no use any more before it had left.
    #[error("withdrawn before it was sent")]
    Withdrawn,
    /// No provider is configured for this service and app.
    #[error("no provider is configured for {pns}", pns = .pns.label())]
    NotConfigured {
        /// The service.
        pns: Pns,
    },
}

impl PushError {
    /// The label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unregistered { .. } => "unregistered",
            Self::WrongToken { .. } => "wrong-token",
            Self::BadCredentials { .. } => "bad-credentials",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::Refused { .. } => "refused",
            Self::NotConfigured { .. } => "not-configured",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A provider's reason: its own word, cut to 64 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(Box<str>);

impl Reason {
    /// Keeps what may be logged of a provider's word.
    #[must_use]
    pub fn new(word: &str) -> Self {
        Self(
            word.chars()
                .filter(|c| c.is_ascii_graphic() || *c == ' ')
                .take(64)
                .collect(),
        )
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
