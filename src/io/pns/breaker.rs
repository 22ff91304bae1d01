//! The breaker of one app at one push service, which is left alone for a while when it gives
//! everybody the same bad answer.
//!
//! A service that times out would cost each call its five seconds, and one that refuses our
//! credentials is only annoyed by more of them. After a run of such verdicts pushes fail at once;
//! now and then one is let through, and what it gets is good for all. A burst of tokens that are
//! "wrong" says that we are (the topic, the environment): then none is condemned.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::io::pns::apns;
use crate::proto::push::{PushAccepted, PushError, Reason};

/// Verdicts of one kind, without another between them, after which it opens.
const RUN: u32 = 5;
/// How long a service in an outage is left alone: it shall be found soon after it is back.
const OUTAGE: Duration = Duration::from_secs(2);
/// How long one is left alone that refuses our credentials: an operator must act.
const REFUSED: Duration = Duration::from_secs(30);
/// How long a push that was let through may go without a verdict.
const PROBE: Duration = Duration::from_secs(6);
/// The verdicts that a burst is looked for in, and how old they may be.
const RECENT: usize = 200;
const RECENT_FOR: Duration = Duration::from_secs(600);
/// Fewer wrong tokens are no burst.
const LEAST_WRONG: usize = 5;
/// More than one in so many are.
const ONE_IN: usize = 20;

type Verdict = Result<PushAccepted, PushError>;

/// The breaker of one app at one provider.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The bad verdict that everybody gets, and how often in a run.
    run: Option<(PushError, u32)>,
    /// Until when pushes fail at once, if they do.
    open_until: Option<Instant>,
    /// When verdicts came that say something of tokens, and whether the token was wrong.
    tokens: VecDeque<(Instant, bool)>,
}

impl Breaker {
    /// Lets a push go on.
    ///
    /// # Errors
    /// The verdict that it would get.
    pub(super) fn admit(&self, now: Instant) -> Result<(), PushError> {
        let mut state = self.0.lock();
        let Some(until) = state.open_until else {
            return Ok(());
        };
        if now >= until {
            // This one finds out; until it has, the others do not go on.
            state.open_until = Some(now + PROBE);
            return Ok(());
        }
        match &state.run {
            Some((PushError::Unavailable { reason, .. }, _)) => Err(PushError::Unavailable {
                retry_after: Some(until - now),
                reason: reason.clone(),
            }),
            Some((error, _)) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Learns from a verdict.
    pub(super) fn settle(&self, now: Instant, verdict: &Verdict) {
        self.0.lock().count(now, verdict);
    }

    /// Learns what became of a token in the end; returns what its asker is told.
    pub(super) fn weigh(&self, now: Instant, verdict: Verdict) -> Verdict {
        let mut state = self.0.lock();
        state.remember(now, &verdict);
        match verdict {
            Err(PushError::WrongToken { reason }) if state.is_burst(&reason) => {
                tracing::warn!(
                    reason = reason.as_str(),
                    "too many tokens are wrong at once: they are kept; look at topics and environment"
                );
                Err(PushError::Refused { reason })
            }
            Ok(_) | Err(_) => verdict,
        }
    }
}

impl State {
    fn count(&mut self, now: Instant, verdict: &Verdict) {
        let pause = match verdict {
            // It says nothing of the service.
            Err(PushError::Withdrawn | PushError::NotConfigured { .. }) => return,
            Err(PushError::Unavailable { .. }) => OUTAGE,
            Err(PushError::BadCredentials { .. }) => REFUSED,
            Ok(_)
            | Err(
                PushError::Unregistered { .. }
                | PushError::WrongToken { .. }
                | PushError::Throttled { .. }
                | PushError::Refused { .. },
            ) => {
                if self.open_until.take().is_some() {
                    tracing::info!("the push service answers again");
                }
                self.run = None;
                return;
            }
        };
        let Err(error) = verdict else { return };
        let before = match &self.run {
            Some((last, run)) if is_same(last, error) => *run,
            Some(_) | None => 0,
        };
        let run = before.saturating_add(1);
        self.run = Some((error.clone(), run));
        if run >= RUN {
            if self.open_until.is_none() {
                tracing::warn!(%error, "the push service gives every push the same: it is left alone for a while");
            }
            self.open_until = Some(now + pause);
        }
    }

    fn remember(&mut self, now: Instant, verdict: &Verdict) {
        let is_wrong = match verdict {
            Ok(_) => false,
            Err(PushError::WrongToken { reason }) => reason.as_str() == apns::BAD_DEVICE_TOKEN,
            Err(_) => return,
        };
        let is_old = |(at, _): &mut (Instant, bool)| now.duration_since(*at) > RECENT_FOR;
        while self.tokens.len() >= RECENT || self.tokens.front_mut().is_some_and(is_old) {
            self.tokens.pop_front();
        }
        self.tokens.push_back((now, is_wrong));
    }

    fn is_burst(&self, reason: &Reason) -> bool {
        let wrong = self.tokens.iter().filter(|(_, is_wrong)| *is_wrong).count();
        reason.as_str() == apns::BAD_DEVICE_TOKEN
            && wrong >= LEAST_WRONG
            && wrong * ONE_IN > self.tokens.len()
    }
}

/// Whether two verdicts are of one run: an outage shows itself in many ways.
fn is_same(one: &PushError, other: &PushError) -> bool {
    let is_outage = |error: &PushError| matches!(error, PushError::Unavailable { .. });
    one == other || is_outage(one) && is_outage(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Verdict {
        Err(PushError::Unavailable {
            retry_after: None,
            reason: Reason::new("timed out"),
        })
    }

    fn bad_credentials() -> Verdict {
        Err(PushError::BadCredentials {
            reason: Reason::new("InvalidProviderToken"),
        })
    }

    fn wrong_token() -> Verdict {
        Err(PushError::WrongToken {
            reason: Reason::new(apns::BAD_DEVICE_TOKEN),
        })
    }

    fn accepted() -> Verdict {
        Ok(PushAccepted {
            provider_id: "1".into(),
        })
    }

    #[test]
    fn an_outage_fails_pushes_at_once_and_one_in_a_while_finds_its_end() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..RUN {
            assert!(breaker.admit(now).is_ok());
            breaker.settle(now, &unavailable());
        }
        let refused = breaker.admit(now + OUTAGE / 2).unwrap_err();
        assert_eq!(refused.label(), "unavailable");
        let later = now + OUTAGE;
        assert!(breaker.admit(later).is_ok(), "one finds out");
        assert!(breaker.admit(later).is_err(), "and the others wait for it");
        breaker.settle(later, &unavailable());
        assert!(breaker.admit(later + OUTAGE / 2).is_err());
        let later = later + OUTAGE;
        assert!(breaker.admit(later).is_ok());
        breaker.settle(later, &accepted());
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn a_run_is_broken_by_any_other_verdict_and_a_withdrawn_push_is_none() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for round in 0..RUN * 4 {
            assert!(breaker.admit(now).is_ok());
            breaker.settle(now, &unavailable());
            if round % (RUN - 1) == 0 {
                breaker.settle(now, &accepted());
            }
            breaker.settle(now, &Err(PushError::Withdrawn));
        }
        assert!(breaker.admit(now).is_ok());
    }

    #[test]
    fn refused_credentials_are_shown_again_after_half_a_minute() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..RUN {
            breaker.settle(now, &bad_credentials());
        }
        let refused = breaker.admit(now + REFUSED / 2).unwrap_err();
        assert_eq!(refused.label(), "bad-credentials");
        assert!(breaker.admit(now + REFUSED).is_ok());
    }

    #[test]
    fn a_probe_without_a_verdict_is_followed_by_another() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..RUN {
            breaker.settle(now, &unavailable());
        }
        assert!(breaker.admit(now + OUTAGE).is_ok());
        assert!(breaker.admit(now + OUTAGE + PROBE / 2).is_err());
        assert!(breaker.admit(now + OUTAGE + PROBE).is_ok());
    }

    #[test]
    fn a_burst_of_wrong_tokens_condemns_none_and_single_ones_are_dead() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for number in 0..400 {
            let verdict = if number % 30 == 0 {
                wrong_token()
            } else {
                accepted()
            };
            let told = breaker.weigh(now, verdict);
            assert_ne!(told.err().map(|error| error.label()), Some("refused"));
        }
        let mut told = Vec::new();
        for _ in 0..20 {
            told.extend(breaker.weigh(now, wrong_token()).err());
        }
        assert_eq!(told.last().map(PushError::label), Some("refused"));
        let later = now + RECENT_FOR * 2;
        let told = breaker.weigh(later, wrong_token()).unwrap_err();
        assert_eq!(told.label(), "wrong-token");
    }
}
