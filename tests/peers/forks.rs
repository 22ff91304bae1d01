//! Two telephones of different makes for one agent, behind the one contact that Asterisk has.

use rouse::proto::Transport;

use crate::phone::{Model, Phone, State};
use crate::rig::asterisk::{Agent, Keeps, Version};
use crate::rig::handset::Handset;
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};

/// Makes a test for each Asterisk.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod chan_sip { $(on_both!(one Sixteen $test);)+ }
        mod pjsip { $(on_both!(one TwentyTwo $test);)+ }
    };
    (one $asterisk:ident $test:ident) => {
        #[ignore = "needs Linphone, baresip and SIP.js: make test-peers"]
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            super::$test($crate::rig::asterisk::Version::$asterisk).await;
        }
    };
}

on_both!(
    a_linphone_and_a_browser_ring_and_the_linphone_answers,
    a_linphone_rings_while_the_browser_is_woken_and_answers,
);

struct Pair {
    stage: Stage,
    agent: Agent,
    linphone: Phone,
    browser: Phone,
    browsers_token: Handset,
}

impl Pair {
    async fn new(asterisk: Version) -> Self {
        let peers = Peers {
            asterisk,
            phone: Transport::Tls,
        };
        let setup = Setup {
            probe: "2s",
            grace: "3s",
            ..Setup::default()
        };
        let stage = Stage::with(peers, &setup).await;
        let (agent, token) = stage.agent(Keeps::One);
        let mut browsers_token = stage.device(&agent);
        browsers_token.use_transport(&stage.rouse, Transport::Wss);
        let mut linphone = Phone::new(Model::Linphone, &token.config, None);
        let mut browser = Phone::new(Model::SipJs, &browsers_token.config, None);
        linphone.start();
        stage.reachable(&agent).await;
        browser.start();
        browser.reaches(State::Registered).await;
        Self {
            stage,
            agent,
            linphone,
            browser,
            browsers_token,
        }
    }

    async fn ends(self, invited: (usize, usize)) {
        self.stage.talking(&self.agent).await;
        self.stage.asterisk.hang_up(&self.agent);
        let end = self.stage.asterisk.call_ended(&self.agent, SOON).await;
        assert_eq!(end, "ANSWER/16");
        assert_eq!((self.linphone.calls(), self.browser.calls()), invited);
    }
}

async fn a_linphone_and_a_browser_ring_and_the_linphone_answers(asterisk: Version) {
    let mut pair = Pair::new(asterisk).await;
    pair.stage.asterisk.call(&pair.agent, 9);
    pair.linphone.reaches(State::Ringing).await;
    pair.browser.reaches(State::Ringing).await;
    pair.linphone.answer();
    pair.linphone.reaches(State::Talking).await;
    pair.browser.reaches(State::Over).await;
    pair.ends((1, 1)).await;
}

async fn a_linphone_rings_while_the_browser_is_woken_and_answers(asterisk: Version) {
    let mut pair = Pair::new(asterisk).await;
    pair.browser.kill();
    pair.stage.asterisk.call(&pair.agent, 9);
    pair.linphone.reaches(State::Ringing).await;
    pair.stage.push.next(&pair.browsers_token, "call", 1).await;
    pair.browser.start();
    pair.browser.reaches(State::Ringing).await;
    pair.browser.answer();
    pair.browser.reaches(State::Talking).await;
    pair.linphone.reaches(State::Over).await;
    pair.ends((1, 1)).await;
}
