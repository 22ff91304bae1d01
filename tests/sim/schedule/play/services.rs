//! The push services: they take a push and deliver it, late or never, or refuse it, busy or since
//! its token is dead; and what they say of it is not always what becomes of it.

use std::time::Duration;

use rouse::proto::push::{PushAccepted, PushError, PushRequest, Reason};

use super::Play;
use crate::schedule::ladder::{PUSH, Way};
use crate::schedule::network::Event;
use crate::schedule::phone::phone_of;

impl Play {
    /// A push leaves.
    pub(super) fn push(&mut self, push: PushRequest) {
        let now = self.world.now;
        let token = push.target.token.expose().to_owned();
        let notice = push.notice.label();
        self.tell(PUSH, Way::Down, || format!("{notice} to {}", &token[..8]));
        self.onlooker.pushed(now, &push);
        let Some(phone) = phone_of(&token) else {
            return;
        };
        let reason = || Reason::new("x");
        // A token that the app has no more wakes nobody.
        let is_gone = self.phones[phone].is_gone || !self.phones[phone].has_token(&token);
        let is_bad = self.chance.percent(self.bad_pushes);
        let after = self.chance.millis(20, 300);
        let accepted = Ok(PushAccepted {
            provider_id: "id".into(),
        });
        let (after, verdict, is_delivered) = match self.chance.below(8) {
            _ if is_gone => {
                let since_ms = None;
                let reason = reason();
                (
                    after,
                    Err(PushError::Unregistered { since_ms, reason }),
                    false,
                )
            }
            _ if !is_bad => (after, accepted, true),
            0 => {
                self.phones[phone].is_gone = true;
                let (since_ms, reason) = (None, reason());
                (
                    after,
                    Err(PushError::Unregistered { since_ms, reason }),
                    false,
                )
            }
            1 => {
                let (retry_after, reason) = (self.chance.millis(500, 9_000), reason());
                let error = PushError::Throttled {
                    retry_after,
                    reason,
                };
                (after, Err(error), false)
            }
            2 => {
                let (retry_after, reason) = (None, reason());
                let error = PushError::Unavailable {
                    retry_after,
                    reason,
                };
                (after, Err(error), false)
            }
            3 => (
                after,
                Err(PushError::WrongToken { reason: reason() }),
                false,
            ),
            4 => (self.chance.millis(2_000, 30_000), accepted, true),
            // It never says what it did.
            5 => (Duration::from_secs(3600), accepted, self.chance.percent(50)),
            _ => (after, accepted, false),
        };
        if after < Duration::from_secs(600) {
            let id = push.id;
            let event = Event::Verdict {
                id,
                token,
                at: now,
                verdict,
            };
            self.network.at(now + after, event);
        }
        if is_delivered {
            let way = self.chance.millis(50, 1_500);
            self.network.at(now + way, Event::Pushed { phone, notice });
        }
    }
}
