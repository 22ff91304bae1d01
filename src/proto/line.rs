//! The line of inputs that wait for a shard when more arrives than it can handle.
//!
//! What belongs to something that was begun goes first; what would begin something waits, by its
//! [`Urgency`], and is refused when it has waited for too long: [`Input::Shed`]. So all time that is
//! left after what was begun goes into new calls, as many as it suffices for, and those hear soon
//! whether they are among them. Within an urgency the order is that of arrival; a CANCEL stays
//! behind its INVITE.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::proto::Input;
use crate::proto::sip::{Message, Method};

/// How long something new waits before it is refused: a stall is no overload.
const PATIENCE: Duration = Duration::from_millis(100);
/// The same when something new has waited at all times for [`PATIENCE`]: who is served at last
/// should not have waited for nothing.
const SHORT_PATIENCE: Duration = Duration::from_millis(20);
/// Inputs in line beyond which the least urgent is refused at once.
const LENGTH: usize = 4096;

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Urgency {
    /// It belongs to something that was begun: a response, a CANCEL, an ACK, what is inside a
    /// dialog, a device that registers again. It is never refused for the load.
    Begun,
    /// It begins something for somebody whom we know: a call.
    Call,
    /// An unknown device wants to register.
    Registration,
    /// Anything else of strangers.
    Stranger,
}

/// Inputs that wait, most urgent first.
#[derive(Debug, Default)]
pub struct Line {
    begun: VecDeque<Input>,
    /// By urgency, from [`Urgency::Call`].
    new: [VecDeque<Waiting>; 3],
    /// Since when something new has waited at all times.
    new_since: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    input: Input,
}

impl Line {
    /// Takes an input at the end of its part of the line.
    pub fn push(&mut self, now: Instant, urgency: Urgency, input: Input) {
        let part = match urgency {
            Urgency::Begun => self.overtaken_by(&input),
            Urgency::Call => Some(0),
            Urgency::Registration => Some(1),
            Urgency::Stranger => Some(2),
        };
        let Some(part) = part.and_then(|part| self.new.get_mut(part)) else {
            return self.begun.push_back(input);
        };
        part.push_back(Waiting { since: now, input });
        self.new_since.get_or_insert(now);
    }

    /// Takes the next input out: to be handled, or refused.
    pub fn next(&mut self, now: Instant) -> Option<Input> {
        let next = self.take(now);
        if self.new.iter().all(VecDeque::is_empty) {
            self.new_since = None;
        }
        next
    }

    /// Whether it takes no more for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= LENGTH
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        let new: usize = self.new.iter().map(VecDeque::len).sum();
        self.begun.len() + new
    }

    fn take(&mut self, now: Instant) -> Option<Input> {
        if self.is_full()
            && let Some(part) = self.new.iter_mut().rfind(|part| !part.is_empty())
        {
            return part.pop_front().map(shed);
        }
        if let Some(input) = self.begun.pop_front() {
            return Some(input);
        }
        let patience = self.patience(now);
        let is_late = |waiting: &mut Waiting| now.duration_since(waiting.since) > patience;
        for part in &mut self.new {
            if let Some(late) = part.pop_front_if(is_late) {
                return Some(shed(late));
            }
        }
        let mut new = self.new.iter_mut();
        new.find_map(VecDeque::pop_front).map(|next| next.input)
    }

    fn patience(&self, now: Instant) -> Duration {
        match self.new_since {
            Some(since) if now.duration_since(since) >= PATIENCE => SHORT_PATIENCE,
            Some(_) | None => PATIENCE,
        }
    }

    /// The part of the line with the INVITE that a CANCEL must not overtake.
    fn overtaken_by(&self, input: &Input) -> Option<usize> {
        let cancel = message(input).filter(|message| is(message, Method::Cancel))?;
        let call_id = cancel.call_id().ok()?;
        self.new.iter().position(|part| {
            let mut messages = part.iter().filter_map(|waiting| message(&waiting.input));
            messages.any(|message| message.call_id() == Ok(call_id))
        })
    }
}

/// What becomes of one that has waited for too long.
fn shed(waiting: Waiting) -> Input {
    let Input::Message { flow, message } = waiting.input else {
        return waiting.input;
    };
    if is(&message, Method::Cancel) {
        // It ends something, if there is what it ends.
        Input::Message { flow, message }
    } else {
        Input::Shed { flow, message }
    }
}

const fn message(input: &Input) -> Option<&Message> {
    if let Input::Message { message, .. } = input {
        Some(message)
    } else {
        None
    }
}

fn is(message: &Message, method: Method<'_>) -> bool {
    message.is_request() && message.method() == Some(method)
}
