//! Where a shard keeps its response contexts (RFC 3261 §16.2): slots with generations, so that a
//! late timer or answer never meets another request's context.

use slab::Slab;

use crate::proto::FlowId;
use crate::proto::proxy::response_context::{Phase, ResponseContext};
use crate::proto::push::wake::Waiter;
use crate::proto::transaction::branch_number;

/// The contexts.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    slots: Slab<Slot>,
    generation: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// `None` while somebody works on it.
    context: Option<Box<ResponseContext>>,
}

impl Contexts {
    /// Takes a slot; the context is put there by [`Self::put`].
    pub(super) fn reserve(&mut self) -> u64 {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.slots.insert(Slot {
            generation: self.generation,
            context: None,
        });
        u64::from(self.generation) << 32 | (slot as u64 & 0xffff_ffff)
    }

    /// Takes a context out to work on it.
    pub(super) fn take(&mut self, id: u64) -> Option<Box<ResponseContext>> {
        let slot = self.slots.get_mut((id & 0xffff_ffff) as usize)?;
        if u64::from(slot.generation) != id >> 32 {
            return None;
        }
        slot.context.take()
    }

    /// Whether a branch is one of a call that still goes on; the context that somebody works on
    /// does not count.
    pub(super) fn is_live(&self, waiter: Waiter) -> bool {
        let slot = self.slots.get((waiter.context & 0xffff_ffff) as usize);
        let slot = slot.filter(|slot| u64::from(slot.generation) == waiter.context >> 32);
        let context = slot.and_then(|slot| slot.context.as_ref());
        context
            .filter(|context| context.is_invite())
            .and_then(|context| context.branches.get(usize::from(waiter.branch)))
            .is_some_and(|branch| !branch.has_answered())
    }

    /// A context on which nobody works.
    pub(super) fn peek(&self, id: u64) -> Option<&ResponseContext> {
        let slot = self.slots.get((id & 0xffff_ffff) as usize)?;
        let context = slot.context.as_deref();
        context.filter(|_| u64::from(slot.generation) == id >> 32)
    }

    /// Puts a context back.
    pub(super) fn put(&mut self, context: Box<ResponseContext>) {
        if let Some(slot) = self.slots.get_mut((context.id & 0xffff_ffff) as usize) {
            slot.context = Some(context);
        }
    }

    /// Gives a slot back.
    pub(super) fn free(&mut self, id: u64) {
        let slot = (id & 0xffff_ffff) as usize;
        if self.slots.contains(slot) {
            self.slots.remove(slot);
        }
    }

    /// Whether a request that came over a flow still has no answer.
    pub(super) fn has_sender(&self, flow: FlowId) -> bool {
        self.slots.iter().any(|(_, slot)| {
            let context = slot.context.as_deref();
            context.is_some_and(|context| context.flow.id == flow)
        })
    }

    /// Requests that have no final answer, kept ones not counted: their senders have one.
    pub(super) fn unanswered(&self) -> usize {
        let contexts = self
            .slots
            .iter()
            .filter_map(|(_, slot)| slot.context.as_deref());
        let waits =
            |context: &&ResponseContext| context.phase != Phase::Answered && context.kept == 0;
        contexts.filter(waits).count()
    }

    /// Forgets what the store has, and returns the numbers of the other unanswered requests.
    /// Timers and answers of what is forgotten find nothing.
    pub(super) fn hand_over(&mut self) -> Vec<u64> {
        let is_held = |slot: &Slot| slot.context.as_ref().is_some_and(|c| c.held.is_some());
        self.slots.retain(|_, slot| !is_held(slot));
        let contexts = self
            .slots
            .iter()
            .filter_map(|(_, slot)| slot.context.as_deref());
        contexts
            .filter(|context| context.phase != Phase::Answered)
            .filter_map(|context| Some(branch_number(context.request.top_via().ok()?.branch()?)))
            .collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }
}
