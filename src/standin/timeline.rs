//! What happened between whom, and when: filled by the stand-ins, printed as a ladder or as JSON.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimelineEvent {
    /// Milliseconds since the timeline began, on the monotonic clock.
    pub at_ms: u64,
    /// Who did it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What.
    pub what: String,
}

/// A shared list of events; clones write into the same list.
#[derive(Clone, Debug)]
pub struct Timeline(Arc<Mutex<Recorded>>);

#[derive(Debug)]
struct Recorded {
    start: Instant,
    events: Vec<TimelineEvent>,
}

impl Recorded {
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Timeline {
    /// Makes an empty timeline that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Recorded {
            start: Instant::now(),
            events: Vec::new(),
        })))
    }

    /// Forgets everything and begins again now, for all clones.
    pub fn restart(&self) {
        let mut recorded = self.0.lock();
        recorded.start = Instant::now();
        recorded.events.clear();
    }

    /// Returns how long ago the timeline began, in milliseconds.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        self.0.lock().elapsed_ms()
    }

    /// Appends an event that happens now.
    pub fn note(&self, from: &str, to: &str, what: impl Into<String>) {
        // Reading the clock under the lock keeps the list in the order of its times.
        let mut recorded = self.0.lock();
        let at_ms = recorded.elapsed_ms();
        recorded.events.push(TimelineEvent {
            at_ms,
            from: from.to_owned(),
            to: to.to_owned(),
            what: what.into(),
        });
    }

    /// Returns all events, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<TimelineEvent> {
        self.0.lock().events.clone()
    }

    /// Returns the first event that `matches`.
    pub fn first(&self, matches: impl Fn(&TimelineEvent) -> bool) -> Option<TimelineEvent> {
        self.0
            .lock()
            .events
            .iter()
            .find(|event| matches(event))
            .cloned()
    }

    /// Returns how many events `matches`.
    pub fn count(&self, matches: impl Fn(&TimelineEvent) -> bool) -> usize {
        self.0
            .lock()
            .events
            .iter()
            .filter(|event| matches(event))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_serialise_with_the_documented_fields_in_order() {
        let timeline = Timeline::new();
        let shared = timeline.clone();
        shared.note("Asterisk", "Rouse", "INVITE");
        let events = timeline.events();
        assert_eq!(events.len(), 1);
        let json = serde_json::to_string(&events[0]).unwrap();
        assert!(json.starts_with("{\"at_ms\":"), "{json}");
        assert!(
            json.ends_with("\"from\":\"Asterisk\",\"to\":\"Rouse\",\"what\":\"INVITE\"}"),
            "{json}"
        );
        assert_eq!(timeline.count(|event| event.what == "INVITE"), 1);
    }
}
