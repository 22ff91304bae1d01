//! Which of Apple's environments a device token belongs to, where the device says the wrong one.
//!
//! An app that was built for the sandbox and says `apns`, or the other way round, gets
//! `BadDeviceToken` for each push. The token is tried in the other environment once; what that
//! shows is remembered, for so many tokens, by a hash that tells nothing of the token.

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;
use parking_lot::Mutex;

use crate::io::pns::ApnsEnvironment;
use crate::proto::push::PushTarget;

/// Tokens that are remembered; the oldest is forgotten, and costs one request more.
const MOST: usize = 16_384;

/// What was learned.
#[derive(Debug, Default)]
pub(in crate::io::pns) struct Environments {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_token: HashMap<u64, ApnsEnvironment, RandomState>,
    order: VecDeque<u64>,
}

impl ApnsEnvironment {
    /// The one that it is not.
    pub(in crate::io::pns) const fn other(self) -> Self {
        match self {
            Self::Production => Self::Sandbox,
            Self::Sandbox => Self::Production,
        }
    }

    /// Its name in the configuration.
    pub(in crate::io::pns) const fn label(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }
}

impl Environments {
    /// Returns where a token was found to belong.
    pub(in crate::io::pns) fn of(&self, target: &PushTarget) -> Option<ApnsEnvironment> {
        let number = self.number(target);
        self.state.lock().by_token.get(&number).copied()
    }

    /// Remembers where a token belongs.
    pub(in crate::io::pns) fn learn(&self, target: &PushTarget, environment: ApnsEnvironment) {
        let number = self.number(target);
        let mut state = self.state.lock();
        if state.by_token.insert(number, environment).is_none() {
            state.order.push_back(number);
        }
        if state.order.len() > MOST
            && let Some(oldest) = state.order.pop_front()
        {
            state.by_token.remove(&oldest);
        }
    }

    fn number(&self, target: &PushTarget) -> u64 {
        self.hasher.hash_one((&target.app, target.token.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::push::{Pns, Prid};

    #[test]
    fn only_so_many_tokens_are_remembered() {
        let environments = Environments::default();
        let target = |number: usize| PushTarget {
            pns: Pns::Apns,
            app: "com.example.app".into(),
            detail: None,
            token: Prid::new(&format!("{number:064x}")),
        };
        for number in 0..=MOST {
            environments.learn(&target(number), ApnsEnvironment::Sandbox);
        }
        assert_eq!(environments.of(&target(0)), None);
        assert_eq!(
            environments.of(&target(MOST)),
            Some(ApnsEnvironment::Sandbox)
        );
        assert_eq!(environments.state.lock().order.len(), MOST);
    }
}
