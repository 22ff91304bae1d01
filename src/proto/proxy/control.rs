//! What the process asks of a running shard: new settings, and to take no new calls.

use std::sync::Arc;

use crate::proto::Output;
use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::settings::Settings;

impl Proxy {
    /// Takes no new calls from now on.
    pub(in crate::proto) fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Leaves the calls that wait for phones to another process, and ends the others.
    pub(in crate::proto) fn hand_over(&mut self, fx: &mut Effects<'_>) {
        self.is_draining = true;
        let left = self.contexts.hand_over();
        fx.output(Output::HandedOver(left));
    }

    /// Goes on by other settings; what is under way keeps the timers that it has armed.
    pub(in crate::proto) fn reload(&mut self, fx: &mut Effects<'_>, settings: Arc<Settings>) {
        self.transactions.set_limit(settings.limits.transactions);
        self.wakes
            .set_pushes_per_device(settings.limits.pushes_per_device);
        self.upstreams.reload(fx, Arc::clone(&settings));
        self.guard.reload(Arc::clone(&settings), self.shards);
        self.settings = settings;
        self.keeping.try_again();
    }

    /// Requests whose sender still waits for an answer of ours.
    #[must_use]
    pub(in crate::proto) fn unanswered(&self) -> usize {
        self.contexts.unanswered()
    }
}
