//! Requests that overtake the answer to their agent's first REGISTER.
//!
//! Asterisk has the agent's contact before its 200 has reached us, and PJSIP writes from several
//! threads: a NOTIFY, or the call that a queue had ready, may be here first. It waits for that
//! answer, which is under way, rather than be told that there is no device.
//!
//! Invariant: who waits is an agent's whose REGISTER is under way, and has a timer.

use std::collections::HashMap;

use ahash::RandomState;
use smallvec::SmallVec;

use crate::proto::effects::Effects;
use crate::proto::proxy::{Proxy, Source, stamp};
use crate::proto::reject::Reject;
use crate::proto::sip::{Message, Method, Reply};
use crate::proto::timer::{Timer, TimerKey};
use crate::proto::transaction::ServerId;
use crate::proto::{AorId, Flow};

/// How many wait for one agent.
const MOST: usize = 8;
/// For how long one waits, in T1: answers overtake each other by less.
const WAIT: u32 = 2;

/// Requests that wait, by the agent that they are for.
pub(super) type Overtaking = HashMap<AorId, SmallVec<[Early; 1]>, RandomState>;

/// A request from an upstream that waits for its agent's first device.
#[derive(Debug)]
pub(super) struct Early {
    flow: Flow,
    request: Message,
    server: ServerId,
    source: Source,
    timer: TimerKey,
}

impl Proxy {
    /// Lets a request wait if the answer to its agent's first REGISTER is under way; returns whether
    /// it waits.
    pub(super) fn wait_for_first(
        &mut self,
        fx: &mut Effects<'_>,
        flow: &Flow,
        request: &Message,
        server: ServerId,
        source: Source,
    ) -> bool {
        let Source::Upstream(upstream) = source else {
            return false;
        };
        let named = self.preprocess(request);
        let named = named.and_then(|routes| self.called_agent(request, upstream, routes.token));
        let Ok((aor, _)) = named else {
            return false;
        };
        let waiting = self.overtaking.get(&aor).map_or(0, SmallVec::len);
        if !self.registering.contains_key(&aor) || waiting >= MOST {
            return false;
        }
        if request.method() == Some(Method::Invite) {
            // RFC 3261 §16.2: 100 at once.
            let mut trying = Reply::new(request, 100, "Trying");
            stamp(&mut trying, flow, request);
            let trying = trying.finish();
            self.transactions.respond(fx, server, 100, trying);
        }
        let timer = fx.arm(self.settings.timing.t1 * WAIT, Timer::Early(aor, server));
        self.overtaking.entry(aor).or_default().push(Early {
            flow: *flow,
            request: request.clone(),
            server,
            source,
            timer,
        });
        true
    }

    /// The agent has its first device, or will not have it: those that wait go on.
    pub(super) fn end_overtaking(&mut self, fx: &mut Effects<'_>, aor: AorId) {
        for early in self.overtaking.remove(&aor).into_iter().flatten() {
            fx.cancel(early.timer);
            self.go_on(fx, early);
        }
    }

    /// One has waited long enough.
    pub(super) fn on_early_due(&mut self, fx: &mut Effects<'_>, aor: AorId, server: ServerId) {
        if let Some(early) = self.take_early(aor, server) {
            self.go_on(fx, early);
        }
    }

    /// The caller of one that waits has given up.
    pub(super) fn cancel_early(&mut self, fx: &mut Effects<'_>, server: ServerId) {
        let is_it = |early: &Early| early.server == server;
        let mut all = self.overtaking.iter();
        let Some((aor, _)) = all.find(|(_, waiting)| waiting.iter().any(is_it)) else {
            return;
        };
        if let Some(early) = self.take_early(*aor, server) {
            fx.cancel(early.timer);
            self.turn_down(fx, &early, Reject::Cancelled);
        }
    }

    fn take_early(&mut self, aor: AorId, server: ServerId) -> Option<Early> {
        let waiting = self.overtaking.get_mut(&aor)?;
        let at = waiting.iter().position(|early| early.server == server)?;
        let early = waiting.remove(at);
        if waiting.is_empty() {
            self.overtaking.remove(&aor);
        }
        Some(early)
    }

    fn go_on(&mut self, fx: &mut Effects<'_>, early: Early) {
        let outcome = self.preprocess(&early.request).and_then(|routes| {
            let (flow, server, source) = (early.flow, early.server, early.source);
            self.proxy_request(fx, flow, &early.request, server, source, routes)
        });
        if let Err(reject) = outcome {
            self.turn_down(fx, &early, reject);
        }
    }

    fn turn_down(&mut self, fx: &mut Effects<'_>, early: &Early, reject: Reject) {
        Self::report_refused(fx, &early.request, early.source, reject);
        self.refuse(fx, &early.flow, &early.request, early.server, reject);
    }
}
