//! The gateway that is measured: one upstream by UDP, listeners of each kind, all else as by default.

use std::net::SocketAddr;
use std::time::Duration;

use rouse::proto::Transport;
use rouse::proto::push::Pns;
use rouse::proto::settings::{
    ContactMode, Guard, HoldResponse, Limits, Listener, Node, Push, PushApp, Qualify,
    RegisterRules, Settings, Timing, Upstream, Wake,
};

/// Its settings.
pub(crate) fn settings() -> Settings {
    let listener = |transport, port| Listener {
        transport,
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        advertise_host: "127.0.0.1".into(),
        advertise_port: port,
    };
    Settings {
        listeners: vec![
            listener(Transport::Udp, 5960),
            listener(Transport::Tcp, 5960),
            listener(Transport::Tls, 5961),
        ],
        upstreams: vec![Upstream {
            name: "pbx".into(),
            domains: vec!["*".into()],
            nodes: vec![Node {
                index: 0,
                host: "127.0.0.2".into(),
                port: Some(5080),
                transport: Some(Transport::Udp),
            }],
            contact: ContactMode::Agent,
            qualify: Qualify::Local,
            trust: vec!["127.0.0.2/32".parse().expect("a network")],
            trusts_datagrams: true,
            expires: Duration::from_secs(36_000),
            keep: None,
        }],
        wake: Wake {
            timeout: Duration::from_secs(180),
            // A flow that is asked whether it lives would be another work.
            fresh: Duration::from_secs(36_000),
            probe: Duration::from_millis(400),
            grace: Duration::from_secs(2),
            late: Duration::from_secs(30),
            hold_response: HoldResponse::None,
            unreachable_status: 480,
            message_hold: Duration::from_secs(60),
            missed_call_push: false,
            no_global_decline: false,
        },
        register: RegisterRules::default(),
        guard: Guard::default(),
        timing: Timing::default(),
        limits: Limits::default(),
        push: Push {
            apps: vec![PushApp {
                pns: Pns::Apns,
                name: "com.example.phone".into(),
            }],
            ..Push::default()
        },
    }
}
