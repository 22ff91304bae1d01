//! What a push service's verdict means for the device and for those who wait for it (RFC 8599
//! §5.6.2): a dead token goes, from memory and from the store, and its branches end at once; a
//! service that fails is asked again inside the call's time.

use std::time::Duration;

use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::response_context::{Hold, ResponseContext};
use crate::proto::proxy::waking::{arm_retry, is_waiting};
use crate::proto::push::wake::Sent;
use crate::proto::push::{Notice, PushAccepted, PushError, PushId};
use crate::proto::registration::binding::Binding;
use crate::proto::{BindingKey, Event, Output, StoreWrite};

/// First wait before a service that failed is asked again; each further one is twice as long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest of them, unless the service itself asked for more.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// What a failed push says about its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Nothing: later it may be taken.
    Later(Option<Duration>),
    /// Nothing, and later will be no better.
    NotAsked,
    /// It is dead.
    Dead,
}

impl Proxy {
    /// A push service answered.
    pub(in crate::proto) fn on_pushed(
        &mut self,
        fx: &mut Effects<'_>,
        id: PushId,
        verdict: Result<PushAccepted, PushError>,
    ) {
        let Some(sent) = self.wakes.take_push(id) else {
            return;
        };
        let (pns, notice) = (sent.pns, sent.notice);
        match verdict {
            Ok(PushAccepted { provider_id }) => {
                let after = fx.now.saturating_duration_since(sent.at);
                fx.event(Event::PushAccepted {
                    key: sent.key,
                    pns,
                    notice,
                    after,
                    provider_id,
                });
                // The call was over before it was certain that the app would hear of it.
                for (notice, lifetime) in sent.then {
                    self.notify(fx, sent.key, notice, lifetime);
                }
            }
            Err(error) => {
                fx.event(Event::PushFailed {
                    key: sent.key,
                    pns,
                    notice,
                    error: error.clone(),
                });
                if error != PushError::Withdrawn {
                    self.on_push_failed(fx, &sent, &error);
                }
            }
        }
    }

    fn on_push_failed(&mut self, fx: &mut Effects<'_>, sent: &Sent, error: &PushError) {
        let key = sent.key;
        let token = self.judge(sent, error);
        if token == Token::Dead {
            self.forget_token(fx, sent);
        }
        // The token for calls may live when another of the device's is dead.
        let is_woken = self.location.binding(key).is_some_and(Binding::has_push);
        if sent.notice == Notice::Wake.label() && is_woken {
            self.on_quiet_push_failed(fx, key, error);
        } else if sent.notice == "call" || !is_woken {
            let after = match token {
                Token::Later(asked) if is_woken => Some(self.wakes.back_off(
                    fx.now,
                    key,
                    asked.unwrap_or_default(),
                    RETRY_AFTER..=LONGEST_WAIT,
                )),
                Token::Later(_) | Token::NotAsked | Token::Dead => None,
            };
            self.retry_or_fail(fx, key, after);
        }
    }

    /// Those who wait for a device try again after a time, or wait no longer.
    fn retry_or_fail(&mut self, fx: &mut Effects<'_>, key: BindingKey, after: Option<Duration>) {
        for waiter in self.wakes.waiters(key) {
            self.with_context(fx, waiter.context, |proxy, fx, context| match after {
                Some(after) if context.hold == Hold::Call => {
                    arm_retry(fx, context, waiter.branch, after);
                }
                Some(_) => {}
                None if proxy.waits_in_vain(context, key) => {
                    proxy.on_cannot_wake(fx, context, waiter.branch);
                }
                // It waits for a device that comes by itself.
                None => {}
            });
        }
    }

    /// Whether a request waits for a device that no push will bring.
    fn waits_in_vain(&self, context: &ResponseContext, key: BindingKey) -> bool {
        let is_woken = self.location.binding(key).is_some_and(Binding::has_push);
        match context.hold {
            Hold::Call => true,
            Hold::Brief { is_pushed } => is_pushed && !is_woken,
            Hold::Message | Hold::Notify(_) => false,
        }
    }

    fn judge(&self, sent: &Sent, error: &PushError) -> Token {
        let since_ms = match error {
            PushError::Unregistered { since_ms, .. } => *since_ms,
            PushError::WrongToken { .. } => None,
            PushError::Throttled { retry_after, .. } => return Token::Later(Some(*retry_after)),
            PushError::Unavailable { retry_after, .. } => return Token::Later(*retry_after),
            PushError::BadCredentials { .. }
            | PushError::Refused { .. }
            | PushError::NotConfigured { .. }
            | PushError::Withdrawn => return Token::NotAsked,
        };
        let Some(binding) = self.location.binding(sent.key) else {
            return Token::NotAsked;
        };
        let is_its = binding.push().is_some_and(|push| {
            push.call_token == sent.token || push.alert_token.as_ref() == Some(&sent.token)
        });
        // The device has shown its token again since: that word is newer than the service's. The
        // service names a time, or means the time of the push.
        let is_newer = binding.registered_ms > since_ms.unwrap_or(sent.unix_ms);
        if is_its && !is_newer {
            Token::Dead
        } else {
            Token::Later(None)
        }
    }

    /// Another push may be tried, inside the call's time.
    pub(super) fn on_retry(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        let (true, Some(key)) = (is_waiting(&branch.state), branch.device()) else {
            return;
        };
        // Of several who wait, the first pushes for all.
        if self.wakes.rearm(fx.now, key) {
            self.push_for(fx, context, index, key);
        }
    }

    /// A token is dead. Without one for calls the device cannot be woken any more, and without a
    /// flow it is gone.
    fn forget_token(&mut self, fx: &mut Effects<'_>, sent: &Sent) {
        let key = sent.key;
        let Some(binding) = self.location.binding_mut(key) else {
            return;
        };
        match binding.push() {
            Some(push) if push.call_token != sent.token => binding.forget_alert_token(),
            Some(_) | None => self.location.forget_push(key),
        }
        let binding = self.location.binding(key);
        if binding.is_some_and(|b| b.flow().is_some() || b.has_push()) {
            self.store_anew(fx, key);
        } else {
            self.remove_binding(fx, key);
        }
    }

    /// What is durable of a binding becomes what is known of it.
    fn store_anew(&self, fx: &mut Effects<'_>, key: BindingKey) {
        if let Some(stored) = self.stored(key) {
            let write = StoreWrite::Put(Box::new(stored));
            fx.output(Output::Store {
                ticket: None,
                write,
            });
        }
    }
}
