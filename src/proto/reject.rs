//! The one table from a refusal to its status, its reason phrase and its label.

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reject {
    /// The message is not SIP (RFC 3261 §16.3 step 1).
    Malformed,
    /// Max-Forwards reached zero (§16.3 step 3).
    TooManyHops,
    /// The request came back unchanged (§16.3 step 4, RFC 5393).
    LoopDetected,
    /// Max-Breadth is used up (RFC 5393 §5.3.3).
    MaxBreadth,
    /// Proxy-Require names what we do not know (§16.3 step 5).
    BadExtension,
    /// The Request-URI's scheme is not ours (§16.3 step 2).
    UnsupportedScheme,
    /// SIP version other than 2.0.
    Version,
    /// The sender may not send this.
    Forbidden,
    /// No such agent here.
    UnknownAgent,
    /// The agent has no device that can be reached.
    NoDevice,
    /// No device was woken in time.
    NotWoken,
    /// The push service refused to wake the only device.
    PushFailed,
    /// The device woke, but its registration was refused (RFC 8599 §5.6.2).
    RegistrationRefused,
    /// It asks for a registration too short to be kept by pushes (RFC 8599 §5.6.1.1).
    TooBrief,
    /// It names a push service that nobody here reaches (RFC 8599 §8.1).
    UnsupportedPns,
    /// No upstream serves this domain.
    UnknownDomain,
    /// No node of the upstream can be reached.
    NoUpstream,
    /// A device did not answer in time (§16.7).
    NoAnswer,
    /// The upstream did not answer in time; 408 is not for requests other than INVITE (RFC 4320).
    UpstreamSilent,
    /// A dialog's request whose flow is gone (RFC 5626 §5.3).
    FlowFailed,
    /// A sips URI is not reached over TLS (RFC 5630).
    SipsNotAllowed,
    /// A hop between the phone and us keeps no flow (RFC 5626 §6).
    NoOutbound,
    /// Whoever was called is unavailable: 503 is not passed on (§16.7 step 6).
    CalleeUnavailable,
    /// A Route that is not ours to follow.
    ForeignRoute,
    /// CANCEL without its INVITE (§9.2).
    NoSuchTransaction,
    /// Too many devices for one agent.
    TooManyDevices,
    /// Too many held calls for one agent.
    TooManyHeld,
    /// Too much is kept for an agent's sleeping devices.
    TooMuchKept,
    /// The device of a dialog did not come in time. What RFC 5057 §5.1 says of 504 with Retry-After
    /// harms this transaction alone; 408 would end the call (RFC 3261 §12.2.1.2) and is not for
    /// requests other than INVITE (RFC 4320 §4.2).
    DialogAsleep,
    /// A table is full.
    Overloaded,
    /// More arrives than can be handled: it has waited for too long.
    Shed,
    /// The store did not take the binding.
    NotDurable,
    /// We are shutting down.
    Draining,
    /// The message is larger than we take.
    TooLarge,
    /// The caller cancelled (§9.2).
    Cancelled,
    /// Its address is banned.
    Banned,
    /// It says that it is a scanner.
    Scanner,
    /// A stranger asks too often.
    TooFast,
    /// A registered agent asks too often.
    AgentTooFast,
    /// Too many REGISTERs of its account, or from its address, were refused.
    TooManyFailures,
    /// Too many unknown devices want to register at once.
    TooManyRegisters,
    /// The upstream refused its REGISTER: nothing is sent, this names the offence.
    WrongCredentials,
}

impl Reject {
    /// The status and its reason phrase.
    #[must_use]
    pub const fn status(self) -> (u16, &'static str) {
        match self {
            Self::Malformed => (400, "Bad Request"),
            Self::Forbidden
            | Self::ForeignRoute
            | Self::Banned
            | Self::Scanner
            | Self::WrongCredentials => (403, "Forbidden"),
            Self::UnknownAgent | Self::UnknownDomain => (404, "Not Found"),
            Self::NoAnswer => (408, "Request Timeout"),
            Self::UpstreamSilent | Self::DialogAsleep => (504, "Server Time-out"),
            Self::TooLarge => (513, "Message Too Large"),
            Self::UnsupportedScheme => (416, "Unsupported URI Scheme"),
            Self::BadExtension => (420, "Bad Extension"),
            Self::FlowFailed => (430, "Flow Failed"),
            Self::NoDevice
            | Self::NotWoken
            | Self::PushFailed
            | Self::RegistrationRefused
            | Self::TooMuchKept => (480, "Temporarily Unavailable"),
            Self::TooBrief => (423, "Interval Too Brief"),
            Self::UnsupportedPns => (555, "Push Notification Service Not Supported"),
            Self::SipsNotAllowed => (480, "Temporarily Unavailable"),
            Self::NoOutbound => (439, "First Hop Lacks Outbound Support"),
            Self::NoSuchTransaction => (481, "Call/Transaction Does Not Exist"),
            Self::MaxBreadth => (440, "Max-Breadth Exceeded"),
            Self::LoopDetected => (482, "Loop Detected"),
            Self::TooManyHops => (483, "Too Many Hops"),
            Self::TooManyHeld => (486, "Busy Here"),
            Self::Cancelled => (487, "Request Terminated"),
            Self::NotDurable
            | Self::NoUpstream
            | Self::Overloaded
            | Self::Shed
            | Self::Draining
            | Self::TooFast
            | Self::AgentTooFast
            | Self::TooManyFailures
            | Self::TooManyRegisters => (503, "Service Unavailable"),
            Self::CalleeUnavailable => (500, "Server Internal Error"),
            Self::Version => (505, "Version Not Supported"),
            Self::TooManyDevices => (403, "Too Many Devices"),
        }
    }

    /// Whether it is over in a moment: the answer carries Retry-After.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(
            self,
            Self::Draining
                | Self::Overloaded
                | Self::Shed
                | Self::NotDurable
                | Self::NoUpstream
                | Self::DialogAsleep
                | Self::TooFast
                | Self::AgentTooFast
                | Self::TooManyFailures
                | Self::TooManyRegisters
        )
    }

    /// Whether nothing at all is sent: an answer would be of use to the sender alone.
    #[must_use]
    pub const fn is_silent(self) -> bool {
        matches!(self, Self::Banned | Self::Scanner)
    }

    /// Whether it says that too much came, so that over UDP an answer would only add to it.
    #[must_use]
    pub const fn is_flood(self) -> bool {
        matches!(self, Self::TooFast | Self::TooManyRegisters)
    }

    /// Whether a stranger that earns it again and again is to be banned.
    #[must_use]
    pub const fn is_offence(self) -> bool {
        matches!(
            self,
            Self::Scanner
                | Self::TooFast
                | Self::TooManyFailures
                | Self::WrongCredentials
                | Self::Forbidden
                | Self::ForeignRoute
                | Self::UnknownDomain
                | Self::Malformed
                | Self::Version
        )
    }

    /// Whether it says that no device of the agent was there: the answer carries the reason.
    #[must_use]
    pub const fn is_no_device(self) -> bool {
        matches!(self, Self::NoDevice) || self.is_unreachable()
    }

    /// Whether it says that a sleeping device was not reached: its status is configured.
    #[must_use]
    pub const fn is_unreachable(self) -> bool {
        matches!(
            self,
            Self::NotWoken | Self::PushFailed | Self::RegistrationRefused
        )
    }

    /// The label in metrics, and the text of the Reason header.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooManyHops => "too-many-hops",
            Self::LoopDetected => "loop",
            Self::MaxBreadth => "max-breadth",
            Self::NoAnswer => "no-answer",
            Self::UpstreamSilent => "upstream-silent",
            Self::BadExtension => "proxy-require",
            Self::UnsupportedScheme => "uri-scheme",
            Self::Version => "version",
            Self::Forbidden => "forbidden",
            Self::UnknownAgent => "unknown-agent",
            Self::NoDevice => "no-device",
            Self::NotWoken => "not-woken",
            Self::PushFailed => "push-failed",
            Self::RegistrationRefused => "registration-refused",
            Self::TooBrief => "too-brief",
            Self::UnsupportedPns => "unsupported-pns",
            Self::UnknownDomain => "unknown-domain",
            Self::NoUpstream => "no-upstream",
            Self::FlowFailed => "flow-failed",
            Self::ForeignRoute => "foreign-route",
            Self::NoOutbound => "no-outbound",
            Self::SipsNotAllowed => "sips-not-allowed",
            Self::CalleeUnavailable => "callee-unavailable",
            Self::NoSuchTransaction => "no-such-transaction",
            Self::TooManyDevices => "too-many-devices",
            Self::TooManyHeld => "too-many-held",
            Self::TooMuchKept => "too-much-kept",
            Self::DialogAsleep => "dialog-asleep",
            Self::Overloaded => "overloaded",
            Self::Shed => "shed",
            Self::NotDurable => "not-durable",
            Self::Draining => "draining",
            Self::TooLarge => "too-large",
            Self::Cancelled => "cancelled",
            Self::Banned => "banned",
            Self::Scanner => "scanner",
            Self::TooFast => "too-fast",
            Self::AgentTooFast => "agent-too-fast",
            Self::TooManyFailures => "too-many-failures",
            Self::TooManyRegisters => "too-many-registers",
            Self::WrongCredentials => "wrong-credentials",
        }
    }
}
