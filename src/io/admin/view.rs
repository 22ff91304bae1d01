//! What the API says: the shapes of its JSON, shared by the server, the command line and the
//! OpenAPI document.
//!
//! Agents and callers stand here in full, for an operator looks for them; push tokens never do.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What became of a call.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It goes on: no final answer yet.
    UnderWay,
    /// A device took it.
    Answered,
    /// The caller said that somebody else has answered.
    AnsweredElsewhere,
    /// The caller hung up before anybody answered.
    Cancelled,
    /// A device declined it, or was busy.
    Declined,
    /// A device rang until time was up.
    Unanswered,
    /// No device could be reached or woken.
    Unreachable,
    /// The gateway refused it.
    Refused,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::UnderWay,
        Self::Answered,
        Self::AnsweredElsewhere,
        Self::Cancelled,
        Self::Declined,
        Self::Unanswered,
        Self::Unreachable,
        Self::Refused,
    ];

    /// The word in JSON and on the command line.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnderWay => "under-way",
            Self::Answered => "answered",
            Self::AnsweredElsewhere => "answered-elsewhere",
            Self::Cancelled => "cancelled",
            Self::Declined => "declined",
            Self::Unanswered => "unanswered",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

/// A call in a list.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct CallBrief {
    /// Its name here: 16 hexadecimal digits; later calls have greater ones.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    pub id: String,
    /// Its Call-ID.
    pub call_id: String,
    /// The called agent.
    pub agent: String,
    /// The caller's URI.
    pub caller: String,
    /// When it arrived, milliseconds since the Unix epoch.
    pub began_ms: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// The status of its final answer.
    pub status: Option<u16>,
    /// How long after its arrival it got its final answer, milliseconds.
    pub after_ms: Option<u64>,
    /// How long it lasted from its answer until one side hung up, milliseconds; none: it goes on, or
    /// its end was not seen.
    #[serde(default)]
    pub lasted_ms: Option<u64>,
    /// How long it took to wake the first device that was woken for it, milliseconds.
    pub wake_ms: Option<u64>,
    /// To how many devices it went.
    pub devices: u32,
    /// How many of them had no open connection.
    pub asleep: u32,
    /// What became of it and why, in one sentence.
    pub summary: String,
}

/// A call with all its steps.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct CallStory {
    /// The call.
    #[serde(flatten)]
    pub call: CallBrief,
    /// What happened, oldest first.
    pub steps: Vec<StepView>,
    /// How many further steps were not kept.
    pub omitted: u32,
}

/// Who takes part in a call, as the columns of a ladder.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    /// The upstream.
    Asterisk,
    /// The gateway.
    Rouse,
    /// A push service.
    Push,
    /// The device.
    Device,
}

impl Party {
    /// The word in JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Asterisk => "asterisk",
            Self::Rouse => "rouse",
            Self::Push => "push",
            Self::Device => "device",
        }
    }
}

/// One step of a call.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct StepView {
    /// When, milliseconds after the call's arrival.
    pub at_ms: u64,
    /// What kind of step: one of a fixed set of words.
    pub kind: String,
    /// From whom; the same as `to` for a step that is nobody else's affair.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// Which device, by its name here.
    pub device: Option<String>,
    /// A few words, for an arrow.
    pub label: String,
    /// A sentence.
    pub text: String,
}

/// A page of calls, the latest first.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct CallPage {
    /// The calls.
    pub calls: Vec<CallBrief>,
    /// Ask with `before` set to this for the next page; none: this was the last.
    pub next: Option<String>,
}

/// Which calls.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CallQuery {
    /// Only of agents whose name contains this.
    #[serde(default)]
    pub agent: Option<String>,
    /// Only calls whose caller or agent contains this.
    #[serde(default)]
    pub number: Option<String>,
    /// Only with this outcome.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// Only calls before the one of this name.
    #[serde(default)]
    #[param(pattern = "^[0-9a-f]{1,16}$")]
    pub before: Option<String>,
    /// How many at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u16>,
}

/// Whether a device can be reached at once.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// It has an open connection, or was heard lately.
    Awake,
    /// It has to be woken by a push.
    Asleep,
}

/// A registered device.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeviceView {
    /// Its name here: two numbers of 16 hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{16}-[0-9a-f]{16}$")]
    pub id: String,
    /// Whose it is.
    pub agent: String,
    /// The upstream group that the agent registers with.
    pub upstream: String,
    /// Whether it can be reached at once.
    pub state: DeviceState,
    /// Its `+sip.instance`.
    pub instance: Option<String>,
    /// How it is, or was last, connected: udp, tcp, tls, ws or wss.
    pub transport: String,
    /// From which address it registered last.
    pub address: String,
    /// When it last registered, milliseconds since the Unix epoch.
    pub registered_ms: u64,
    /// When its registration ends, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// How it is woken; none: it cannot be.
    pub push: Option<PushView>,
    /// The last push that was sent to it, as far as it is remembered.
    pub last_push: Option<LastPush>,
}

/// How a device is woken.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct PushView {
    /// The push service.
    pub provider: String,
    /// The app: bundle id, project, host or the operator's name.
    pub app: String,
    /// The last characters of its token.
    pub token: String,
}

/// A device to be entered, as `[[device]]` of the configuration has it: for an app that does not say
/// itself how it is woken.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// Whose it is: USER, or USER@DOMAIN.
    #[schema(pattern = "^[!-?A-~]+(@[!-?A-~]+)?$", max_length = 256)]
    pub agent: String,
    /// The push service, as an app would write it in `pn-provider`: apns, apns.dev, fcm, webpush, or
    /// the name of a webhook.
    #[schema(min_length = 1, max_length = 64)]
    pub provider: String,
    /// As an app would write it in `pn-param`.
    #[serde(default)]
    #[schema(max_length = 256)]
    pub param: Option<String>,
    /// The app's token, or its Web Push endpoint; never told again.
    #[schema(min_length = 1, max_length = 4096)]
    pub prid: String,
    /// Only the device with this `+sip.instance`.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    pub instance: Option<String>,
    /// Only a device whose User-Agent has this in it.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    pub user_agent: Option<String>,
}

impl std::fmt::Debug for NewDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewDevice")
            .field("agent", &self.agent)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// A device that was entered.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct EnteredDevice {
    /// Its name here: 16 hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    pub id: String,
    /// Whose it is.
    pub agent: String,
    /// Only the device with this `+sip.instance`.
    pub instance: Option<String>,
    /// Only a device whose User-Agent has this in it.
    pub user_agent: Option<String>,
    /// How it is woken.
    pub push: PushView,
}

/// The devices that were entered.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct EnteredPage {
    /// All of them, or those of the agents asked for.
    pub devices: Vec<EnteredDevice>,
}

/// A push and its verdict.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastPush {
    /// When the verdict came, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What the push said: call, cancel, missed, message, refresh or wake.
    pub notice: String,
    /// The verdict in a word: accepted, unregistered, throttled, …
    pub verdict: String,
    /// The same in a sentence.
    pub text: String,
}

/// A device with what it did lately.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeviceStory {
    /// The device, unless it has left.
    pub device: Option<DeviceView>,
    /// What happened, oldest first.
    pub notes: Vec<DeviceNote>,
}

/// One thing that a device did, or that was done to it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeviceNote {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What kind: one of a fixed set of words.
    pub kind: String,
    /// A sentence.
    pub text: String,
}

/// A page of devices in the order of their names here.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct DevicePage {
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// Ask with `after` set to this for the next page; none: this was the last.
    pub next: Option<String>,
}

/// Which devices.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeviceQuery {
    /// Only of agents whose name contains this.
    #[serde(default)]
    pub agent: Option<String>,
    /// Only those in this state.
    #[serde(default)]
    pub state: Option<DeviceState>,
    /// Only devices after the one of this name.
    #[serde(default)]
    #[param(pattern = "^[0-9a-f]{16}-[0-9a-f]{16}$")]
    pub after: Option<String>,
    /// How many at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u16>,
}

/// The gateway at a glance.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Summary {
    /// The version.
    pub version: String,
    /// Since when it runs, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// What time it is there, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// How many shards share the work.
    pub shards: u16,
    /// Whether new calls are refused because it is about to stop.
    pub draining: bool,
    /// Devices with an open connection, counted every few seconds.
    pub devices_awake: u64,
    /// Devices without.
    pub devices_asleep: u64,
    /// Calls for agents since the start.
    pub calls: u64,
    /// Final answers to them by class: 2xx, 4xx, …
    pub answers: Vec<Count>,
    /// Wakes by outcome.
    pub wakes: Vec<Wakes>,
    /// Pushes by provider, notice and verdict.
    pub pushes: Vec<Pushes>,
    /// Requests that the gateway refused, by reason.
    pub rejects: Vec<Count>,
    /// What was dropped, by place.
    pub dropped: Vec<Count>,
    /// Open connections by transport.
    pub connections: Vec<Count>,
}

/// A counter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Count {
    /// Of what.
    pub label: String,
    /// How many.
    pub count: u64,
}

/// The wakes with one outcome.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Wakes {
    /// woken or timeout.
    pub outcome: String,
    /// How many.
    pub count: u64,
    /// How long they took together, seconds.
    pub seconds: f64,
    /// How many took no longer than each of these times.
    pub buckets: Vec<Bucket>,
}

/// A step of a cumulative histogram.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Bucket {
    /// No longer than this, seconds; none: however long.
    pub seconds: Option<f64>,
    /// How many.
    pub count: u64,
}

/// The pushes of one kind.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pushes {
    /// The push service.
    pub provider: String,
    /// What they said.
    pub notice: String,
    /// The verdict.
    pub verdict: String,
    /// How many.
    pub count: u64,
}

/// The counters as they were at one time.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sample {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Calls since the start.
    pub calls: u64,
    /// Wakes that ended since the start, however they did.
    pub wakes: u64,
    /// Pushes since the start, whatever the services said.
    pub pushes: u64,
    /// Devices with an open connection.
    pub devices_awake: u64,
    /// Devices without.
    pub devices_asleep: u64,
}

/// The last quarter of an hour.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct History {
    /// A sample every five seconds, oldest first.
    pub samples: Vec<Sample>,
}

/// One line of the event stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Live {
    /// A call took a step.
    Call {
        /// The call as it is now.
        call: Box<CallBrief>,
        /// The step.
        step: Box<StepView>,
    },
    /// A device did something.
    Device {
        /// Its name here.
        device: String,
        /// Whose it is, if that is known there.
        agent: Option<String>,
        /// What it did.
        note: DeviceNote,
    },
}

/// The version of the program.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Version {
    /// The program's name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Whether the gateway can do its work.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether calls should be sent here.
    pub ready: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What is wrong, or what was found.
    pub text: String,
}

/// An agent whose messages and steps are logged.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Watched {
    /// Who.
    pub agent: String,
    /// Until when, milliseconds since the Unix epoch.
    pub until_ms: u64,
}

/// The agents whose messages and steps are logged.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct WatchedPage {
    /// All of them.
    pub agents: Vec<Watched>,
}

/// What became of a test push.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct PushResult {
    /// The device.
    pub device: String,
    /// The push service.
    pub provider: String,
    /// The verdict in a word: accepted, unregistered, throttled, …
    pub verdict: String,
    /// The same in a sentence.
    pub text: String,
    /// How long it took, milliseconds.
    pub after_ms: u64,
}

/// The test pushes to an agent's devices.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct PushReport {
    /// One for each device that can be woken.
    pub pushes: Vec<PushResult>,
}

/// What went wrong, as RFC 9457 has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// A URI of the kind of problem; always `about:blank`: the status says it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What went wrong here, and what helps.
    pub detail: String,
}
