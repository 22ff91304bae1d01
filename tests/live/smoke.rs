//! SIPp on both sides: awake calls at a rate, none of which may fail.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rig::asterisk::{Agent, Asterisk, Keeps, Version};
use crate::rig::loopback;
use crate::rig::push::{Provider, Push};
use crate::rig::rouse::{Rouse, Setup};
use crate::rig::sipp::Sipp;

/// Agents, calls, and calls a second.
const AGENTS: usize = 10;
const CALLS: &str = "200";
const RATE: &str = "50";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sipp_smoke() {
    let asterisk = Asterisk::of(Version::TwentyTwo);
    let push = Push::start(Provider::Apns).await;
    let phones = SocketAddr::from((loopback::address(), 5060));
    let caller = SocketAddr::from((loopback::address(), 5060));
    let SocketAddr::V4(trusted) = caller else {
        panic!("loopback addresses are IPv4");
    };
    let setup = Setup {
        trust: vec![*trusted.ip()],
        log: "info",
        ..Setup::default()
    };
    let rouse = Rouse::start(&setup, asterisk, &push.table);
    let gateway = SocketAddr::from((rouse.ip, 5060));

    let agents: Vec<Agent> = (0..AGENTS).map(|_| asterisk.agent(Keeps::One)).collect();
    Sipp::new("register", phones, gateway)
        .lines(agents.iter().map(|agent| {
            let Agent { user, password } = agent;
            format!("{user};[authentication username={user} password={password}];")
        }))
        .options(&["-m", &AGENTS.to_string(), "-r", "50"])
        .run(Duration::from_secs(10));

    let answers = Sipp::new("uas", phones, gateway).start();
    // Asterisk's side calls the contacts that Rouse has given to Asterisk.
    let contacts = agents.iter().map(|agent| {
        let [contact] = &asterisk.contacts(agent)[..] else {
            panic!("{agent:?} has {:?}", asterisk.contacts(agent));
        };
        format!("{};{contact}", agent.user)
    });
    Sipp::new("uac", caller, gateway)
        .lines(contacts)
        .options(&["-m", CALLS, "-r", RATE, "-timeout", "20s", "-timeout_error"])
        .run(Duration::from_secs(25));
    drop(answers);
}
