//! The end of a branch: its timers, its wait and its transaction go with it.

use crate::proto::effects::Effects;
use crate::proto::event::Step;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::best_response::{Best, better};
use crate::proto::proxy::response_context::{
    Branch, BranchState, Calling, ResponseContext, Target,
};
use crate::proto::proxy::waking::report_step;
use crate::proto::push::wake::Waiter;
use crate::proto::reject::Reject;

impl Proxy {
    /// Ends a branch with an answer of ours.
    pub(super) fn fail_branch(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        reject: Reject,
    ) {
        if let Some(key) = context
            .branches
            .get(usize::from(index))
            .and_then(Branch::device)
        {
            report_step(fx, context, key, Step::Failed(reject));
        }
        context.best = Some(better(context.best.take(), Best::Local(reject)));
        self.finish_branch(fx, context, index);
    }

    /// Ends a branch.
    pub(super) fn finish_branch(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        self.stop_branch(fx, context, index);
        set_state(context, index, BranchState::Final);
    }

    /// Stops whatever a branch does: its timers, its wait, its transaction's word to us.
    pub(super) fn stop_branch(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        self.stop_waiting(fx, context, index);
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        if !self.moved.is_empty() {
            self.unwatch(fx, waiter);
        }
        let Some(branch) = context.branches.get_mut(usize::from(index)) else {
            return;
        };
        if let Target::Device(key) = branch.target
            && let Some(waiters) = self.by_device.get_mut(&key)
        {
            waiters.retain(|other| *other != waiter);
            if waiters.is_empty() {
                self.by_device.remove(&key);
            }
        }
        match &mut branch.state {
            BranchState::Calling(calling) => {
                for timer in [calling.timer_c.take(), calling.grace.take()]
                    .into_iter()
                    .flatten()
                {
                    fx.cancel(timer);
                }
                // A transaction that is still live here is one that nobody waits for any more.
                if self.clients.remove(&calling.client).is_some() {
                    self.transactions.abandon(fx, calling.client);
                }
            }
            BranchState::Cancelling(cancelling) => {
                if let Some(timer) = cancelling.timer.take() {
                    fx.cancel(timer);
                }
                if self.clients.remove(&cancelling.client).is_some() {
                    self.transactions.abandon(fx, cancelling.client);
                }
            }
            BranchState::Idle
            | BranchState::Probing { .. }
            | BranchState::Waking { .. }
            | BranchState::Late(_)
            | BranchState::Final => {}
        }
    }

    /// A branch waits for its device no more.
    pub(super) fn stop_waiting(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        let Some(branch) = context.branches.get_mut(usize::from(index)) else {
            return;
        };
        if let Target::Device(key) = branch.target {
            self.wakes.leave(fx, key, waiter);
        }
        match &mut branch.state {
            BranchState::Probing { timer } | BranchState::Waking { timer } => fx.cancel(*timer),
            BranchState::Late(late) => fx.cancel(late.timer),
            BranchState::Calling(calling) => {
                if let Some(timer) = calling.wake.take() {
                    fx.cancel(timer);
                }
            }
            BranchState::Idle | BranchState::Cancelling(_) | BranchState::Final => {}
        }
    }
}

/// Sets a branch's state.
pub(super) fn set_state(context: &mut ResponseContext, index: u16, state: BranchState) {
    if let Some(branch) = context.branches.get_mut(usize::from(index)) {
        branch.state = state;
    }
}

/// The request that is out on a branch.
pub(super) fn calling(context: &mut ResponseContext, index: u16) -> Option<&mut Calling> {
    match &mut context.branches.get_mut(usize::from(index))?.state {
        BranchState::Calling(calling) => Some(calling),
        BranchState::Idle
        | BranchState::Probing { .. }
        | BranchState::Waking { .. }
        | BranchState::Cancelling(_)
        | BranchState::Late(_)
        | BranchState::Final => None,
    }
}
