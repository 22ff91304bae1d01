//! A telephone at home: in a network of its own, behind a router that masquerades (RFC 4787's
//! address and port dependent mapping). Made of network namespaces, which takes root.

use std::net::Ipv4Addr;
use std::process::{Command, id};

use rouse::proto::Transport;

use crate::calls::{Ends, Scene};
use crate::phone::Model;
use crate::rig::asterisk::Version;
use crate::rig::stage::Peers;

/// The phone's network, the router, and this host's end of the wire to it.
struct Router {
    phones: String,
    router: String,
    host: String,
    /// Where the gateway stands, as the phone reaches it.
    gateway: Ipv4Addr,
}

impl Router {
    fn new() -> Self {
        let process = id();
        // A wire of two addresses for each process (RFC 5737's addresses belong to nobody).
        let wire = u8::try_from(process % 63).expect("it is small") * 4;
        let made = Self {
            phones: format!("rp{process}"),
            router: format!("rr{process}"),
            host: format!("rh{process}"),
            gateway: Ipv4Addr::new(198, 51, 100, wire + 1),
        };
        let Self {
            phones,
            router,
            host,
            gateway,
        } = &made;
        let outside = Ipv4Addr::new(198, 51, 100, wire + 2);
        let nat = "add table ip nat; \
            add chain ip nat out { type nat hook postrouting priority 100; }; \
            add rule ip nat out oifname wan masquerade random";
        run(&format!("ip netns add {phones}"));
        run(&format!("ip netns add {router}"));
        run(&format!(
            "ip link add phone netns {phones} type veth peer name lan netns {router}"
        ));
        run(&format!(
            "ip link add {host} type veth peer name wan netns {router}"
        ));
        run(&format!("ip -n {phones} addr add 192.0.2.10/24 dev phone"));
        run(&format!("ip -n {phones} link set phone up"));
        run(&format!("ip -n {phones} link set lo up"));
        run(&format!("ip -n {router} addr add 192.0.2.1/24 dev lan"));
        run(&format!("ip -n {router} link set lan up"));
        run(&format!("ip -n {router} addr add {outside}/30 dev wan"));
        run(&format!("ip -n {router} link set wan up"));
        run(&format!("ip addr add {gateway}/30 dev {host}"));
        run(&format!("ip link set {host} up"));
        run(&format!("ip -n {phones} route add default via 192.0.2.1"));
        run(&format!(
            "ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1"
        ));
        let rules = ["netns", "exec", router, "nft", nat];
        succeeds(Command::new("ip").args(rules));
        made
    }

    /// The router forgets who was behind which port.
    fn forget(&self) {
        run(&format!("ip netns exec {} conntrack -F", self.router));
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        for command in [
            format!("link del {}", self.host),
            format!("netns del {}", self.phones),
            format!("netns del {}", self.router),
        ] {
            // dropped: what was not made cannot be removed.
            drop(Command::new("ip").args(command.split(' ')).output());
        }
    }
}

#[ignore = "needs Debian's linphone-cli, nftables and conntrack, and root: make test-peers"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_udp_phone_behind_a_router_is_called_also_after_the_router_forgot_it() {
    let router = Router::new();
    let peers = Peers {
        asterisk: Version::Sixteen,
        phone: Transport::Udp,
    };
    let mut scene = Scene::behind(
        Model::Linphone,
        peers,
        Some((router.gateway, &router.phones)),
    )
    .await;
    for ends in [Ends::Asterisk, Ends::Phone] {
        scene.called(ends).await;
    }
    router.forget();
    // The next REGISTER comes from another port of the router; the phone's own has not changed.
    scene.registers_again().await;
    for ends in [Ends::Phone, Ends::Asterisk] {
        scene.called(ends).await;
    }
    scene.has_called(4);
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    succeeds(command.args(words));
}

fn succeeds(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
