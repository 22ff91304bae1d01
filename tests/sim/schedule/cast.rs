//! Who plays, what they may do, and the hands by which they do it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rouse::proto::Flow;

use super::chance::Chance;

/// Something that happens at its time: what a seed has planned, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Somebody calls an agent.
    Call { agent: usize },
    /// The caller hangs up before anybody answers.
    Cancel { call: String },
    /// One end of an answered call hangs up.
    HangUp { phone: Option<usize>, call: String },
    /// Asterisk asks anew for the session.
    Reinvite { call: String },
    /// Asterisk qualifies, notifies or writes to an agent.
    Ask { agent: usize, method: &'static str },
    /// An app begins to ring.
    Ring { phone: usize, branch: String },
    /// Its user decides.
    Decide { phone: usize, branch: String },
    /// An app registers, for so many seconds.
    Register { phone: usize, expires: u32 },
    /// An app is closed or suspended.
    Sleep { phone: usize },
    /// An app comes up, by its user or by a push.
    Wake { phone: usize },
    /// A phone has power again, and its app comes up.
    SwitchOn { phone: usize },
    /// A phone has another address.
    Move { phone: usize },
    /// A phone's battery is empty.
    Die { phone: usize },
    /// An app is installed anew: another instance, the same token.
    Reinstall { phone: usize },
    /// Another agent logs in on a phone.
    ChangeHands { phone: usize, agent: usize },
    /// An agent calls out.
    CallOut { phone: usize },
    /// A phone or (last) a node of Asterisk's is cut off for so long.
    Cut { party: usize, lasts: Duration },
    /// The gateway's process dies and starts again.
    Restart,
    /// The store refuses writes for so long.
    StoreBreaks { lasts: Duration },
    /// The store is well again.
    StoreHeals,
    /// Nothing goes wrong any more.
    Peace,
}

/// What an app asked for by a REGISTER.
#[derive(Clone, Debug)]
pub struct Ask {
    pub phone: usize,
    pub agent: usize,
    pub instance: String,
    pub token: Option<String>,
    pub expires: u32,
    pub flow: Flow,
}

/// By which a model acts.
#[derive(Debug)]
pub struct Hands<'h> {
    pub now: Instant,
    pub chance: &'h mut Chance,
    /// Counts everything that needs a name of its own.
    pub number: &'h mut u32,
    pub out: Vec<(Flow, Bytes)>,
    pub later: Vec<(Duration, Errand)>,
    /// What was asked by the REGISTERs of these branches.
    pub asked: Vec<(String, Ask)>,
    /// Flows that end, after what was sent on them.
    pub closed: Vec<Flow>,
    /// What a party does by itself, for the ladder.
    pub notes: Vec<&'static str>,
}

impl Hands<'_> {
    pub fn branch(&mut self) -> String {
        *self.number += 1;
        format!("z9hG4bKm{}", self.number)
    }

    pub fn after(&mut self, from: u64, to: u64, errand: Errand) {
        let delay = self.chance.millis(from, to);
        self.later.push((delay, errand));
    }
}

/// A number that is not in the world yet.
pub fn tag(number: u32) -> String {
    format!("t{number}")
}
