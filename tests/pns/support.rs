//! What the tests push, and to whom.

use std::net::SocketAddr;
use std::time::Duration;

use rouse::config::{ApnsConfig, FcmConfig};
use rouse::io::pns::{PnsConfig, PushService};
use rouse::proto::push::{
    CallNotice, MessageNotice, Notice, Pns, Prid, PushError, PushId, PushRequest, PushTarget,
};
use rouse::standin::apns::{ApnsStandin, ApnsStandinConfig};
use rouse::standin::fcm::{FcmStandin, FcmStandinConfig};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The stand-in's only app.
pub(crate) const APP: &str = "com.example.app";

/// A device token.
pub(crate) fn token(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

/// A call, as the gateway describes it.
pub(crate) fn call() -> CallNotice {
    CallNotice {
        call_id: "b1946ac92492d234@pbx.example.com".into(),
        from_uri: "sip:+493012345@pbx.example.com".into(),
        display_name: "Ada Lovelace".into(),
        to: "1001@pbx.example.com".into(),
        video: false,
        answered_elsewhere: false,
        sent_at_ms: 1_700_000_000_000,
        expires_at_ms: 1_700_000_025_000,
    }
}

/// A text message, as the gateway describes it.
pub(crate) fn message() -> MessageNotice {
    let call = call();
    MessageNotice {
        call_id: "m1@pbx.example.com".into(),
        from_uri: call.from_uri,
        display_name: call.display_name,
        to: call.to,
        sent_at_ms: call.sent_at_ms,
        expires_at_ms: call.expires_at_ms,
    }
}

/// A push to an APNs device.
pub(crate) fn to_apns(token: &str, notice: Notice) -> PushRequest {
    PushRequest {
        id: PushId {
            shard: 0,
            number: 1,
        },
        target: PushTarget {
            pns: Pns::Apns,
            app: APP.into(),
            detail: None,
            token: Prid::new(token),
        },
        notice,
        lifetime: Duration::from_secs(25),
    }
}

/// A stand-in for APNs and a gateway that pushes to it.
pub(crate) struct AppleRig {
    pub(crate) apple: ApnsStandin,
    pub(crate) config: ApnsConfig,
    pub(crate) service: PushService,
    _folder: TempDir,
}

impl AppleRig {
    pub(crate) async fn new() -> Self {
        Self::with(ApnsStandinConfig::default()).await
    }

    pub(crate) async fn with(config: ApnsStandinConfig) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = config.clock.clone();
        let apple = ApnsStandin::start(config).await.unwrap();
        let config = apple.client_config(folder.path()).unwrap();
        let service = PushService::with_clock(only_apns(config.clone()), clock).unwrap();
        Self {
            apple,
            config,
            service,
            _folder: folder,
        }
    }

    /// Sends a call's push and returns its `apns-id`.
    pub(crate) async fn call(&self, token: &str) -> Result<String, PushError> {
        let push = to_apns(token, Notice::Call(call()));
        let accepted = self.service.send(push).await?;
        Ok(accepted.provider_id.to_string())
    }
}

/// A configuration with one APNs entry.
pub(crate) fn only_apns(entry: ApnsConfig) -> PnsConfig {
    PnsConfig {
        apns: vec![entry],
        gateway_id: "gw-test".to_owned(),
        ..PnsConfig::default()
    }
}

/// A push to an FCM device.
pub(crate) fn to_fcm(token: &str, notice: Notice) -> PushRequest {
    let mut push = to_apns(token, notice);
    push.target.pns = Pns::Fcm;
    push.target.app = "my-project".into();
    push
}

/// A stand-in for FCM and a gateway that pushes to it.
pub(crate) struct GoogleRig {
    pub(crate) google: FcmStandin,
    pub(crate) config: FcmConfig,
    pub(crate) service: PushService,
    _folder: TempDir,
}

impl GoogleRig {
    pub(crate) async fn new() -> Self {
        Self::with(FcmStandinConfig::default()).await
    }

    pub(crate) async fn with(config: FcmStandinConfig) -> Self {
        let folder = TempDir::new().unwrap();
        let google = FcmStandin::start(config).await.unwrap();
        let config = google.client_config(folder.path()).unwrap();
        let service = PushService::new(only_fcm(config.clone())).unwrap();
        Self {
            google,
            config,
            service,
            _folder: folder,
        }
    }

    /// Sends a call's push and returns what FCM named it.
    pub(crate) async fn call(&self, token: &str) -> Result<String, PushError> {
        let push = to_fcm(token, Notice::Call(call()));
        let accepted = self.service.send(push).await?;
        Ok(accepted.provider_id.to_string())
    }
}

/// A configuration with one FCM entry.
pub(crate) fn only_fcm(entry: FcmConfig) -> PnsConfig {
    PnsConfig {
        fcm: vec![entry],
        gateway_id: "gw-test".to_owned(),
        ..PnsConfig::default()
    }
}

/// A TCP relay in front of a stand-in: it can be away, and it keeps what clients sent.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    target: SocketAddr,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        Self::bind(SocketAddr::from(([127, 0, 0, 1], 0)), target).await
    }

    async fn bind(address: SocketAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            target,
            task: tokio::spawn(relay(listener, target)),
        }
    }

    /// Refuses connections and cuts those that are there.
    pub(crate) async fn leave(&mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }

    /// Comes back at the same address.
    pub(crate) async fn come_back(&mut self) {
        *self = Self::bind(self.address, self.target).await;
    }
}

async fn relay(listener: TcpListener, target: SocketAddr) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let mut server = TcpStream::connect(target).await.unwrap();
            // Either end may hang up in the middle: that is what a relay is for here.
            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
        });
    }
}
