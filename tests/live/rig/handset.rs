//! An agent's telephone: the app with its push token. It sleeps and wakes, and counts over all its
//! lives how often it was called.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rouse::proto::Transport;
use rouse::standin::error::PhoneError;
use rouse::standin::phone::{Phone, PhoneConfig, Registered};
use rouse::standin::timeline::Timeline;

use super::asterisk::Agent;
use super::certificates::certificates;
use super::push::{Provider, Push};
use super::rouse::Rouse;

/// A handset, awake or asleep.
#[derive(Debug)]
pub(crate) struct Handset {
    pub(crate) config: PhoneConfig,
    pub(crate) provider: Provider,
    /// What its push service calls it.
    pub(crate) token: String,
    awake: Option<Phone>,
    invites_before: usize,
    timeline: Timeline,
}

static NUMBER: AtomicU32 = AtomicU32::new(1);

impl Handset {
    /// A handset of this agent, not yet switched on.
    pub(crate) fn new(
        rouse: &Rouse,
        agent: &Agent,
        transport: Transport,
        provider: Provider,
        push: &Push,
    ) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let domain = rouse.ip.to_string();
        let proxy = rouse.address(transport);
        let (token, address) = push.address(number);
        let config = PhoneConfig {
            transport,
            ca_pem: Some(certificates().ca_pem.clone()),
            push: Some(address),
            instance: Some(format!("urn:uuid:00000000-0000-1000-8000-{number:012x}")),
            patience: Duration::from_secs(10),
            ..PhoneConfig::new(&agent.user, &domain, &agent.password, proxy)
        };
        Self {
            config,
            provider,
            token,
            awake: None,
            invites_before: 0,
            timeline: Timeline::new(),
        }
    }

    /// Starts the app and registers; what it used until now is closed first.
    pub(crate) async fn wake(&mut self) -> Registered {
        self.try_wake().await.expect("the phone registers")
    }

    /// The same, for registrations that are refused.
    pub(crate) async fn try_wake(&mut self) -> Result<Registered, PhoneError> {
        self.sleep();
        let phone = Phone::wake(self.config.clone(), self.timeline.clone()).await?;
        self.awake.insert(phone).register().await
    }

    /// Lets the app reach Rouse in another way from its next wake on.
    pub(crate) fn use_transport(&mut self, rouse: &Rouse, transport: Transport) {
        self.config.transport = transport;
        self.config.proxy = rouse.address(transport);
    }

    /// Opens another socket in the middle of whatever the app does, perhaps of another kind, and
    /// registers over it.
    pub(crate) async fn roam(&mut self, rouse: &Rouse, transport: Transport) {
        self.use_transport(rouse, transport);
        let app = self.awake.as_mut().expect("the test has woken it");
        app.change_transport(transport, rouse.address(transport))
            .await
            .expect("the gateway listens there too");
        app.register().await.expect("the phone registers");
    }

    /// The system takes the app's socket away; nobody is told.
    pub(crate) fn sleep(&mut self) {
        if let Some(phone) = self.awake.take() {
            self.invites_before += phone.invites_seen();
            phone.sleep();
        }
    }

    /// Returns the app, which must be awake.
    pub(crate) fn app(&mut self) -> &mut Phone {
        self.awake.as_mut().expect("the test has woken it")
    }

    /// Returns how many calls it has seen in all its lives, retransmissions not counted.
    pub(crate) fn invites(&self) -> usize {
        self.invites_before + self.awake.as_ref().map_or(0, Phone::invites_seen)
    }

    /// Asserts that no call comes for this long.
    pub(crate) async fn stays_silent(&mut self, during: Duration) {
        let call = self.app().next_call_within(during).await;
        if let Ok(call) = call {
            panic!("it rings: {:?}", call.invite);
        }
    }
}
