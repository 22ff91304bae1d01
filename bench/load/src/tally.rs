//! How fast the load goes, what it counts, and its report.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// What is counted, and every latency in microseconds.
#[derive(Default)]
pub struct Tally {
    /// Units begun.
    pub sent: u64,
    /// Units ended well, and answered REGISTERs.
    pub done: u64,
    /// Refusals by status.
    pub codes: BTreeMap<u16, u64>,
    /// REGISTERs sent again.
    pub resent: u64,
    /// INVITEs that a phone got again.
    pub repeated: u64,
    /// From Asterisk's 200 to a REGISTER to the phone's: what durability costs, in a wake.
    pub to_grant: Vec<f64>,
    /// From a request to its answer.
    pub answer: Vec<f64>,
    /// From INVITE to push.
    pub to_push: Vec<f64>,
    /// From the 200 of the REGISTER to the INVITE.
    pub to_invite: Vec<f64>,
    /// From the REGISTER to the INVITE.
    pub from_register: Vec<f64>,
}

impl Tally {
    /// Units refused.
    pub fn failed(&self) -> u64 {
        self.codes.values().sum()
    }

    /// All of it, after so long, of which this process ran `own` seconds.
    pub fn report(&mut self, elapsed: Duration, own: f64, lost_streams: usize) -> Value {
        let lost = self.sent - self.done;
        let codes = self.codes.iter();
        let codes: Map<String, Value> = codes
            .map(|(code, count)| (code.to_string(), json!(count)))
            .collect();
        json!({
            "sent": self.sent,
            "done": self.done,
            "failed_share": lost as f64 / self.sent.max(1) as f64,
            "codes": codes,
            "resent": self.resent,
            "repeated": self.repeated,
            "lost_streams": lost_streams,
            "seconds": elapsed.as_secs_f64(),
            "load_cpu_s": own,
            "answer_us": percentiles(&mut self.answer),
            "invite_to_push_us": percentiles(&mut self.to_push),
            "register_to_invite_us": percentiles(&mut self.to_invite),
            "register_to_grant_us": percentiles(&mut self.to_grant),
            "register_sent_to_invite_us": percentiles(&mut self.from_register),
        })
    }
}

/// How fast.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many a second.
    Rate(f64),
    /// So many under way at once.
    Window(usize),
}

impl Pace {
    /// How many more may begin now.
    pub fn due(self, started: Instant, under_way: usize, sent: usize) -> usize {
        match self {
            Self::Rate(rate) => {
                ((started.elapsed().as_secs_f64() * rate) as usize).saturating_sub(sent)
            }
            Self::Window(window) => window.saturating_sub(under_way),
        }
    }
}

/// Microseconds.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn percentiles(values: &mut [f64]) -> Value {
    if values.is_empty() {
        return Value::Null;
    }
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0), "n": values.len() })
}
