//! What an agent does all day, with a real telephone.

use std::net::Ipv4Addr;
use std::time::Duration;

use rouse::proto::Transport;

use crate::phone::{Model, Phone, State, linphone};
use crate::rig::asterisk::{Agent, Asterisk, Keeps};
use crate::rig::handset::Handset;
use crate::rig::push::Provider;
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};

/// Who ends a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Asterisk,
    Phone,
}

/// Everything that one test has.
pub(crate) struct Scene {
    stage: Stage,
    agent: Agent,
    /// The agent's push token; the crate's own phone behind it stays off.
    token: Handset,
    phone: Phone,
}

impl Scene {
    /// The phone has registered, and Asterisk finds it reachable.
    async fn new(model: Model, peers: Peers) -> Self {
        Self::behind(model, peers, None).await
    }

    /// The same, with the gateway at this address and the phone in that network namespace.
    pub(crate) async fn behind(
        model: Model,
        peers: Peers,
        router: Option<(Ipv4Addr, &str)>,
    ) -> Self {
        let agent = Asterisk::of(peers.asterisk).agent(Keeps::One);
        let (entered, device) = entered(&agent, peers.provider());
        let setup = Setup {
            ip: router.map(|(gateway, _)| gateway),
            // Longer than a real phone on a busy machine takes to answer.
            probe: "2s",
            grace: "3s",
            more: match model {
                Model::Baresip => device,
                Model::Linphone | Model::SipJs => String::new(),
            },
            ..Setup::default()
        };
        let stage = Stage::with(peers, &setup).await;
        let mut token = stage.device(&agent);
        match (model, token.provider) {
            (Model::Baresip, _) => token.token = entered,
            (Model::Linphone, Provider::Apns) => {
                token.config.push = Some(linphone::two_tokens(&token.token));
            }
            (Model::Linphone, Provider::Fcm | Provider::WebPush | Provider::Webhook)
            | (Model::SipJs, _) => {}
        }
        let namespace = router.map(|(_, namespace)| namespace);
        let mut phone = Phone::new(model, &token.config, namespace);
        phone.start();
        stage.reachable(&agent).await;
        Self {
            stage,
            agent,
            token,
            phone,
        }
    }

    /// Asterisk calls the phone, which is awake.
    pub(crate) async fn called(&mut self, ends: Ends) {
        self.stage.asterisk.call(&self.agent, 9);
        self.answered(ends).await;
    }

    /// The phone registers once more, from the socket that it has.
    pub(crate) async fn registers_again(&mut self) {
        let granted = || {
            let wire = self.stage.asterisk.wire(|message| {
                message.is_sent
                    && message.status() == Some(200)
                    && message.answers() == "REGISTER"
                    && message.header("To").contains(&self.agent.user)
            });
            wire.len()
        };
        let before = granted();
        self.phone.register();
        crate::rig::eventually("Asterisk grants it", SOON, async || {
            (granted() > before).then_some(())
        })
        .await;
    }

    /// Returns how many Record-Route values Asterisk saw in the phone's answer.
    fn routes(&self) -> usize {
        let wire = self.stage.asterisk.wire(|message| {
            !message.is_sent
                && message.status() == Some(200)
                && message.answers() == "INVITE"
                && message.header("To").contains(&self.agent.user)
        });
        let answer = wire.first().expect("the phone has answered");
        let lines = answer.headers("Record-Route").into_iter();
        lines.flat_map(|line| line.split(',')).count()
    }

    /// Asserts that the phone was called so often and never pushed.
    pub(crate) fn has_called(&self, calls: usize) {
        assert_eq!(self.phone.calls(), calls);
        assert!(
            self.stage.push.of(&self.token, "call").is_empty(),
            "nobody had to be woken"
        );
    }

    /// The phone rings; it is answered, and one of the two hangs up.
    async fn answered(&mut self, ends: Ends) {
        self.phone.reaches(State::Ringing).await;
        self.phone.answer();
        self.phone.reaches(State::Talking).await;
        self.stage.talking(&self.agent).await;
        match ends {
            Ends::Asterisk => self.stage.asterisk.hang_up(&self.agent),
            Ends::Phone => self.phone.hang_up(),
        }
        self.phone.reaches(State::Over).await;
        let end = self.stage.asterisk.call_ended(&self.agent, SOON).await;
        assert_eq!(end, "ANSWER/16");
    }
}

/// A token for a phone whose Contact cannot carry one, and the `[[device]]` that says so.
fn entered(agent: &Agent, provider: Provider) -> (String, String) {
    let user = &agent.user;
    let (name, param, token) = match provider {
        Provider::Apns => ("apns", "ABCDE12345.com.example.app", format!("{user:0>64}")),
        Provider::Fcm => ("fcm", "my-project", format!("bare{user}:APA91bHun4MxP5")),
        Provider::Webhook => ("hms", "1055", format!("bare{user}")),
        Provider::WebPush => panic!("a browser says for itself how it is woken"),
    };
    let device = format!(
        "[[device]]\nagent = \"{user}\"\nprovider = \"{name}\"\nparam = \"{param}\"\n\
         prid = \"{token}\"\n"
    );
    (token, device)
}

pub(crate) async fn an_awake_phone_is_called_and_either_side_hangs_up(model: Model, peers: Peers) {
    let mut scene = Scene::new(model, peers).await;
    for ends in [Ends::Asterisk, Ends::Phone] {
        scene.called(ends).await;
    }
    scene.has_called(2);
}

pub(crate) async fn a_sleeping_phone_is_woken_and_either_side_hangs_up(model: Model, peers: Peers) {
    let mut scene = Scene::new(model, peers).await;
    for (number, ends) in [(1, Ends::Phone), (2, Ends::Asterisk)] {
        scene.phone.kill();
        scene.stage.asterisk.call(&scene.agent, 9);
        scene.stage.push.next(&scene.token, "call", number).await;
        scene.phone.start();
        scene.answered(ends).await;
        assert_eq!(scene.phone.calls(), 1);
    }
    assert_eq!(scene.stage.push.of(&scene.token, "call").len(), 2);
}

/// Its connection is open and looks it; nobody reads from it. The push makes the app run, and
/// register, as apps do that a push has woken.
pub(crate) async fn a_suspended_phone_is_pushed_and_rings_once(model: Model, peers: Peers) {
    let mut scene = Scene::new(model, peers).await;
    scene.phone.suspend();
    // Nothing was heard from it for a while (`[wake] fresh`).
    tokio::time::sleep(Duration::from_millis(400)).await;
    scene.stage.asterisk.call(&scene.agent, 9);
    scene.stage.push.next(&scene.token, "call", 1).await;
    scene.phone.resume();
    scene.phone.register();
    scene.answered(Ends::Asterisk).await;
    assert_eq!(scene.phone.calls(), 1);
    assert_eq!(scene.stage.push.of(&scene.token, "call").len(), 1);
}

/// Its own re-INVITEs and REFER, in whatever words it has for them.
pub(crate) async fn a_phone_holds_its_call_and_gives_it_away(model: Model, peers: Peers) {
    let mut scene = Scene::new(model, peers).await;
    scene.stage.asterisk.call(&scene.agent, 9);
    scene.phone.reaches(State::Ringing).await;
    scene.phone.answer();
    scene.phone.reaches(State::Talking).await;
    scene.stage.talking(&scene.agent).await;
    assert_eq!(
        scene.routes(),
        if peers.phone == Transport::Udp { 1 } else { 2 }
    );
    for _ in 0..2 {
        scene.phone.hold();
        scene.phone.reaches(State::Held).await;
        scene.phone.take_up();
        scene.phone.reaches(State::Talking).await;
    }
    let (target, mut third) = scene.stage.agent(Keeps::One);
    third.wake().await;
    scene.stage.reachable(&target).await;
    scene.phone.transfer(&target.user);
    let mut arrived = third.app().next_call().await.expect("it rings");
    arrived.answer().await.expect("the ACK comes");
    // It is told so (RFC 3515 §2.4.5), and hangs up.
    scene.phone.reaches(State::Over).await;
    scene.stage.talking(&target).await;
    assert_eq!(arrived.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(scene.stage.asterisk.channels_of(&scene.agent), 0);
    scene.has_called(1);
}

pub(crate) async fn a_phone_calls_and_either_side_hangs_up(model: Model, peers: Peers) {
    let mut scene = Scene::new(model, peers).await;
    scene.phone.dial("600");
    scene.phone.reaches(State::Talking).await;
    scene.stage.talking(&scene.agent).await;
    scene.phone.hang_up();
    scene.phone.reaches(State::Over).await;
    crate::rig::eventually("Asterisk's call is over", SOON, async || {
        (scene.stage.asterisk.channels_of(&scene.agent) == 0).then_some(())
    })
    .await;

    scene.phone.dial("601");
    scene.phone.reaches(State::Talking).await;
    // 601 hangs up after a second.
    scene.phone.reaches(State::Over).await;
}

pub(crate) async fn a_phone_that_rings_is_cancelled_when_the_time_is_up(
    model: Model,
    peers: Peers,
) {
    let scene = Scene::new(model, peers).await;
    scene.stage.asterisk.call(&scene.agent, 1);
    scene.phone.reaches(State::Ringing).await;
    scene.phone.reaches(State::Over).await;
    let end = scene.stage.asterisk.call_ended(&scene.agent, SOON).await;
    assert!(end.starts_with("NOANSWER/"), "{end}");
    assert_eq!(scene.phone.calls(), 1);
}

/// The network goes while a call is up, and another is there: what Asterisk sends finds the phone.
pub(crate) async fn a_phone_whose_socket_changes_in_mid_call_hears_the_end(
    model: Model,
    peers: Peers,
) {
    let mut scene = Scene::new(model, peers).await;
    scene.stage.asterisk.call(&scene.agent, 9);
    scene.phone.reaches(State::Ringing).await;
    scene.phone.answer();
    scene.phone.reaches(State::Talking).await;
    scene.stage.talking(&scene.agent).await;
    scene.phone.vanish();
    scene.phone.reaches(State::Offline).await;
    scene.phone.come_back();
    scene.phone.reaches(State::Registered).await;
    scene.stage.asterisk.hang_up(&scene.agent);
    scene.phone.reaches(State::Over).await;
    let end = scene.stage.asterisk.call_ended(&scene.agent, SOON).await;
    assert_eq!(end, "ANSWER/16");
    scene.has_called(1);
}
