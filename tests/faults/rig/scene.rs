//! A stand-in Asterisk, a stand-in APNs, Rouse between them, phones.

use std::net::{IpAddr, SocketAddr};

use rouse::proto::Transport;
use rouse::standin::apns::{ApnsStandin, ApnsStandinConfig};
use rouse::standin::asterisk::{Asterisk, AsteriskConfig};
use rouse::standin::call::{IncomingCall, OutgoingCall};
use rouse::standin::phone::{Phone, PhoneConfig};
use rouse::standin::timeline::Timeline;

use super::certificates::certificates;
use super::rouse::{Rouse, Setup};
use super::{SOON, eventually, home, loopback};

/// Agents that every Asterisk here has: 1000 to 1999, with this password.
pub(crate) const PASSWORD: &str = "correct-horse";

/// Everybody but the phones.
pub(crate) struct Scene {
    pub(crate) asterisk: Asterisk,
    pub(crate) apns: ApnsStandin,
    pub(crate) rouse: Rouse,
}

impl Scene {
    /// Sets it up with the usual configuration.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Sets it up.
    pub(crate) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let asterisk = asterisk(loopback::address()).await;
        Self::before(asterisk, |setup, _| change(setup)).await
    }

    /// Sets it up before an Asterisk, whose address the setup may need.
    pub(crate) async fn before(
        asterisk: Asterisk,
        change: impl FnOnce(&mut Setup, SocketAddr),
    ) -> Self {
        let apns = ApnsStandin::start(ApnsStandinConfig::default());
        let apns = apns.await.expect("apns starts");
        let mut setup = Setup::before(asterisk.address());
        setup.tables = apns_table(&apns);
        change(&mut setup, asterisk.address());
        let rouse = Rouse::start(setup);
        Self {
            asterisk,
            apns,
            rouse,
        }
    }

    /// The configuration of an agent's phone with APNs parameters.
    pub(crate) fn handset(&self, user: u32, transport: Transport) -> PhoneConfig {
        handset(&self.rouse, user, transport)
    }

    /// Registers a phone and lets it sleep.
    pub(crate) async fn sleeper(&self, user: u32) -> PhoneConfig {
        let config = self.handset(user, Transport::Tcp);
        registered(&config).await.sleep();
        config
    }
}

/// An Asterisk on port 5060 of an address.
pub(crate) async fn asterisk(ip: std::net::Ipv4Addr) -> Asterisk {
    let numbers: Vec<String> = (1000..2000).map(|number: u32| number.to_string()).collect();
    let users: Vec<(&str, &str)> = numbers.iter().map(|user| (&**user, PASSWORD)).collect();
    let mut config = AsteriskConfig::new(IpAddr::V4(ip), &users);
    config.port = 5060;
    config.qualify = false;
    config.patience = SOON;
    // One that was there a moment ago may still be closing its sockets.
    eventually("the address is free", async || {
        let started = Asterisk::start(config.clone(), Timeline::new()).await;
        started.ok()
    })
    .await
}

/// `[[push.apns]]` for a stand-in.
pub(crate) fn apns_table(apns: &ApnsStandin) -> String {
    let home = home::directory("apns");
    let ca = apns.write_ca(&home).expect("a file of ours");
    let key = home.join("AuthKey.p8");
    home::write(&key, apns.p8_pem());
    format!(
        r#"
[[push.apns]]
name = "apns"
team_id = "ABCDE12345"
key_id = "KEY1234567"
key_file = "{}"
topics = ["com.example.app"]
url = "{}"
ca_file = "{}"
server_name = "localhost"
"#,
        key.display(),
        apns.url(),
        ca.display()
    )
}

/// What APNs calls an agent's phone.
pub(crate) fn token(user: u32) -> String {
    format!("{:064x}", 0xfeed_0000_u32 + user)
}

/// The configuration of an agent's phone with APNs parameters.
pub(crate) fn handset(rouse: &Rouse, user: u32, transport: Transport) -> PhoneConfig {
    let proxy: SocketAddr = rouse.address(transport);
    let token = token(user);
    let push = format!("pn-provider=apns;pn-param=ABCDE12345.com.example.app;pn-prid={token}");
    PhoneConfig {
        transport,
        ca_pem: Some(certificates().ca_pem.clone()),
        push: Some(push),
        instance: Some(format!("urn:uuid:00000000-0000-1000-8000-{user:012}")),
        patience: SOON,
        ..PhoneConfig::new(&user.to_string(), &rouse.ip.to_string(), PASSWORD, proxy)
    }
}

/// Wakes a phone and registers it.
pub(crate) async fn registered(config: &PhoneConfig) -> Phone {
    let phone = Phone::wake(config.clone(), Timeline::new()).await;
    let mut phone = phone.expect("the gateway listens");
    phone.register().await.expect("the phone registers");
    phone
}

/// The phone answers the call that the caller waits in.
pub(crate) async fn talk(ringing: &mut IncomingCall, caller: &mut OutgoingCall) {
    let (acked, answered) = tokio::join!(ringing.answer(), caller.wait_answer());
    answered.expect("the caller is through");
    acked.expect("the ACK comes");
}
