//! One test's stage: an Asterisk, a Rouse of its own in front of it, push services of its own.

use rouse::proto::Transport;
use std::time::Duration;

use super::asterisk::{Agent, Asterisk, Keeps, Version};
use super::handset::Handset;
use super::push::{Provider, Push};
use super::rouse::{Rouse, Setup};
use super::wire::Wire;

/// Against whom a test runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peers {
    pub(crate) asterisk: Version,
    /// How the phone reaches Rouse.
    pub(crate) phone: Transport,
}

impl Peers {
    /// TCP phones have FCM, others APNs, so that both services are met.
    pub(crate) fn provider(self) -> Provider {
        match self.phone {
            Transport::Tcp => Provider::Fcm,
            Transport::Udp | Transport::Tls | Transport::Ws | Transport::Wss => Provider::Apns,
        }
    }
}

/// The stage.
pub(crate) struct Stage {
    pub(crate) asterisk: &'static Asterisk,
    pub(crate) rouse: Rouse,
    pub(crate) push: Push,
    peers: Peers,
    provider: Provider,
}

/// How long a test waits for something that should come at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

impl Stage {
    /// Sets it up with the usual configuration.
    pub(crate) async fn new(peers: Peers) -> Self {
        Self::with(peers, &Setup::default()).await
    }

    /// Sets it up.
    pub(crate) async fn with(peers: Peers, setup: &Setup) -> Self {
        Self::before(Asterisk::of(peers.asterisk), peers, setup).await
    }

    /// Sets it up before this Asterisk.
    pub(crate) async fn before(asterisk: &'static Asterisk, peers: Peers, setup: &Setup) -> Self {
        let provider = peers.provider();
        let push = Push::start(provider).await;
        Self::pushed_by(push, provider, asterisk, peers, setup)
    }

    /// Sets it up with a push service that runs.
    pub(crate) fn pushed_by(
        push: Push,
        provider: Provider,
        asterisk: &'static Asterisk,
        peers: Peers,
        setup: &Setup,
    ) -> Self {
        let rouse = Rouse::start(setup, asterisk, &push.table);
        Self {
            asterisk,
            rouse,
            push,
            peers,
            provider,
        }
    }

    /// Returns a new agent and its handset, which is off.
    pub(crate) fn agent(&self, keeps: Keeps) -> (Agent, Handset) {
        let agent = self.asterisk.agent(keeps);
        let handset = self.device(&agent);
        (agent, handset)
    }

    /// Returns a handset of this agent.
    pub(crate) fn device(&self, agent: &Agent) -> Handset {
        let (phone, push) = (self.peers.phone, &self.push);
        Handset::new(&self.rouse, agent, phone, self.provider, push)
    }

    /// Waits until Asterisk finds the agent reachable: chan_sip does not call it before.
    pub(crate) async fn reachable(&self, agent: &Agent) {
        super::eventually("Asterisk finds the agent reachable", SOON, async || {
            self.asterisk.is_reachable(agent).then_some(())
        })
        .await;
    }

    /// Waits until Asterisk's channel to the agent is answered.
    pub(crate) async fn talking(&self, agent: &Agent) {
        super::eventually("Asterisk's call is up", SOON, async || {
            (self.asterisk.channels_of(agent) > 0).then_some(())
        })
        .await;
    }

    /// Returns what Asterisk saw of a Call-ID.
    pub(crate) fn dialog(&self, call_id: &str) -> Vec<Wire> {
        self.asterisk
            .wire(|message| message.header("Call-ID") == call_id)
    }
}
