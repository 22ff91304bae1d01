//! Faults that are put between the gateway and the world, to see that an invariant catches each.
//!
//! What a gateway with that fault would do wrong is done where its inputs and outputs cross the
//! seam, or its settings are others than the onlooker's. The gateway itself has no such switch.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each fault changes one thing and leaves all others"
)]

use std::time::Duration;

use bytes::Bytes;
use rouse::proto::push::{PushError, Reason};
use rouse::proto::settings::Settings;
use rouse::proto::{Destination, Input, Output};

use super::invariants::Invariant;
use super::network::party;
use crate::world::udp;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No CANCEL leaves.
    LostCancel,
    /// A registration that is stored releases nobody.
    ForgottenRelease,
    /// A request other than INVITE is never answered for good.
    LostFinal,
    /// A refused INVITE is refused twice, differently.
    SecondFinal,
    /// An INVITE goes to its phone by two branches.
    SecondInvite,
    /// A write is answered and never made.
    UnwrittenStore,
    /// A restart forgets a binding.
    ForgetfulRestart,
    /// A phone may take four times as long to wake.
    SlowWake,
    /// Timers fire 40 s late.
    LateTimers,
    /// Timer C is ten times as long.
    LongTimerC,
    /// Timers I and K are a hundred times as long.
    LongTimerI,
    /// A dead token counts as a busy provider.
    UndeadToken,
    /// Other shards do not hear that a phone has changed hands.
    LostClaim,
    /// A phone's 2xx to an INVITE does not go up.
    LostAnswer,
    /// A message loses its CSeq.
    Damaged,
    /// A call goes to the phone beside.
    Misdirected,
    /// The gateway panics when a call is given up.
    Panic,
}

impl Fault {
    pub const ALL: [Self; 17] = [
        Self::LostCancel,
        Self::ForgottenRelease,
        Self::LostFinal,
        Self::SecondFinal,
        Self::SecondInvite,
        Self::UnwrittenStore,
        Self::ForgetfulRestart,
        Self::SlowWake,
        Self::LateTimers,
        Self::LongTimerC,
        Self::LongTimerI,
        Self::UndeadToken,
        Self::LostClaim,
        Self::LostAnswer,
        Self::Damaged,
        Self::Misdirected,
        Self::Panic,
    ];

    /// Which invariant must catch it.
    pub const fn is_caught_by(self) -> Invariant {
        match self {
            Self::LostCancel => Invariant::NoOrphan,
            Self::ForgottenRelease => Invariant::WokenGetsCall,
            Self::LostFinal | Self::SecondFinal => Invariant::OneFinal,
            Self::SecondInvite => Invariant::OneRing,
            Self::UnwrittenStore | Self::ForgetfulRestart => Invariant::BindingKept,
            Self::SlowWake | Self::LateTimers | Self::LongTimerC => Invariant::HeldEnds,
            Self::LongTimerI => Invariant::NothingLeft,
            Self::UndeadToken | Self::LostClaim => Invariant::NoPushAfterEnd,
            Self::LostAnswer => Invariant::AnswerPasses,
            Self::Damaged => Invariant::ValidSip,
            Self::Misdirected => Invariant::RightPhone,
            Self::Panic => Invariant::NoPanic,
        }
    }

    /// The settings that the gateway has with it.
    pub fn settings(self, mut settings: Settings) -> Settings {
        match self {
            Self::SlowWake => settings.wake.timeout *= 4,
            Self::LongTimerC => settings.timing.timer_c *= 10,
            Self::LongTimerI => settings.timing.t4 *= 100,
            _ => {}
        }
        settings
    }

    /// By how much timers are late.
    pub const fn lag(self) -> Duration {
        match self {
            Self::LateTimers => Duration::from_secs(40),
            _ => Duration::ZERO,
        }
    }

    /// What the gateway hears instead.
    pub fn input(self, input: Input) -> Input {
        match (self, input) {
            (
                Self::UndeadToken,
                Input::Pushed {
                    id,
                    verdict: Err(PushError::Unregistered { .. }),
                },
            ) => {
                let retry_after = Duration::from_secs(1);
                let reason = Reason::new("busy");
                let verdict = Err(PushError::Throttled {
                    retry_after,
                    reason,
                });
                Input::Pushed { id, verdict }
            }
            (_, input) => input,
        }
    }

    /// What leaves instead. `is_release`: the store has just answered.
    pub fn output(self, output: Output, is_release: bool) -> Vec<Output> {
        let Output::Send { message, .. } = &output else {
            let is_lost = self == Self::LostClaim && matches!(output, Output::Claim(_));
            return if is_lost { Vec::new() } else { vec![output] };
        };
        let text = String::from_utf8_lossy(message);
        let line = text.split("\r\n").next().unwrap_or_default();
        let is_invites = text.contains(" INVITE\r\n");
        let is_final = line.starts_with("SIP/2.0 ") && !line.starts_with("SIP/2.0 1");
        let is_success = line.starts_with("SIP/2.0 2");
        let is_to_phone = line.starts_with("INVITE") && text.contains("10.0.0.");
        match self {
            Self::LostCancel if line.starts_with("CANCEL") => Vec::new(),
            Self::ForgottenRelease if is_to_phone && is_release => Vec::new(),
            Self::LostFinal if is_final && !is_invites => Vec::new(),
            Self::LostAnswer if is_success && is_invites => Vec::new(),
            Self::SecondFinal if is_final && is_invites && !is_success => {
                let (_, rest) = text.split_at("SIP/2.0 486".len());
                let second = with_message(&output, format!("SIP/2.0 404{rest}"));
                vec![output, second]
            }
            Self::SecondInvite if is_to_phone => {
                let other = text.replacen("branch=z9hG4bK0", "branch=z9hG4bKf", 1);
                let second = with_message(&output, other);
                vec![output, second]
            }
            Self::Misdirected if is_to_phone => vec![to_neighbour(output)],
            Self::Panic if line.starts_with("CANCEL") => panic!("a fault"),
            Self::Damaged => vec![with_message(&output, text.replacen("CSeq", "C-Seq", 1))],
            _ => vec![output],
        }
    }
}

fn with_message(output: &Output, text: String) -> Output {
    let mut output = output.clone();
    if let Output::Send { message, .. } = &mut output {
        *message = Bytes::from(text);
    }
    output
}

/// The same for the phone whose number is one higher, where its first flow is.
fn to_neighbour(mut output: Output) -> Output {
    if let Output::Send { to, .. } = &mut output
        && let Destination::Flow(flow) = *to
    {
        let next = party(flow) + 1;
        *to = Destination::Flow(udp(u16::try_from(10_001 + next * 1000).unwrap()).id);
    }
    output
}
