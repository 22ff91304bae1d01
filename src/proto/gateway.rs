//! The gateway of one shard: dispatch only.
//!
//! Feed one input, take the outputs until there are none, ask for the next timeout.

use std::sync::Arc;
use std::time::Instant;

use crate::proto::settings::Settings;
use crate::proto::{ClockAnchor, Input, Output};

/// One shard's gateway.
#[derive(Debug)]
pub struct Gateway {}

/// What a gateway is made from.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// The settings of all shards.
    pub settings: Arc<Settings>,
    /// This shard's number.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Both clocks at the start.
    pub anchor: ClockAnchor,
    /// The seed of all randomness.
    pub seed: [u8; 32],
    /// The key of flow tokens and agent numbers: the same after a restart, in every shard.
    pub key: [u8; 32],
}

impl Gateway {
    /// Makes a gateway.
    #[must_use]
    pub fn new(_genesis: Genesis) -> Self {
        todo!()
    }
    /// Takes one input.
    pub fn handle_input(&mut self, _now: Instant, _input: Input) {
        todo!()
    }
    /// Fires what is due.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }
    /// Takes the next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }
    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
}
