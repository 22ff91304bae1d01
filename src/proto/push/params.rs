//! The push parameters of a Contact URI (RFC 8599 §4, §14): read leniently where unambiguous.
//!
//! Three forms: RFC 8599's; Linphone's two tokens (`pn-param=TEAM.bundle.voip&remote;
//! pn-prid=A:voip&B:remote`); the legacy `app-id`, `pn-type`, `pn-tok`. Every reason for "no push"
//! has a name in [`NoPush`].

use crate::proto::push::{Pns, Prid};

/// A device's push parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushParams {
    /// The service.
    pub pns: Pns,
    /// APNs: the bundle id without team and suffix. FCM: the project id or sender id, may be empty.
    pub app: Box<str>,
    /// APNs: the team id, if the device named it.
    pub team: Option<Box<str>>,
    /// The token for calls: APNs' VoIP token, FCM's only one.
    pub call_token: Prid,
    /// The token for everything else: APNs' remote token; FCM's only one; `None` if the device has
    /// a VoIP token alone.
    pub alert_token: Option<Prid>,
}

/// Why a Contact gives no way to wake its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoPush {
    /// It has no push parameters.
    Absent,
    /// A capability query: a provider without a token (RFC 8599 §4.1).
    Query,
    /// A push service that we do not speak.
    UnknownProvider,
    /// The token is missing, too long, or has characters that no token of this service has.
    BadToken,
    /// `pn-param` is missing or not readable.
    BadParam,
}

impl NoPush {
    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Query => "query",
            Self::UnknownProvider => "unknown-provider",
            Self::BadToken => "bad-token",
            Self::BadParam => "bad-param",
        }
    }
}
