//! One set of listeners with one shard, whose queues the test reads.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rouse::io::transport::{
    Counts, Inlet, Network, ShardQueues, TlsFiles, TransportConfig, TransportLimits, bind,
};
use rouse::proto::sip::FrameLimits;
use rouse::proto::{Destination, Flow, Input, Transport};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// A request that parses, with a body.
pub(crate) const OPTIONS: &str = "OPTIONS sip:1000@pbx.example.com SIP/2.0\r\n\
    Via: SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bKtransport1\r\n\
    From: <sip:1000@pbx.example.com>;tag=a\r\n\
    To: <sip:1000@pbx.example.com>\r\n\
    Call-ID: transport-1\r\n\
    CSeq: 1 OPTIONS\r\n\
    Max-Forwards: 70\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 5\r\n\r\nhello";

pub(crate) struct Rig {
    pub(crate) network: Arc<Network>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) counts: Counts,
    /// Inputs from peers.
    pub(crate) inputs: mpsc::Receiver<Input>,
    /// Inputs that somebody waits for.
    pub(crate) answers: mpsc::Receiver<Input>,
}

/// What a rig is made from.
pub(crate) struct Wanted<'w> {
    pub(crate) listeners: &'w [(Transport, &'w str)],
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) upstream_ca: Option<&'w Path>,
    pub(crate) limits: TransportLimits,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self {
            listeners: &[(Transport::Tcp, "127.0.0.1:0")],
            tls: None,
            upstream_ca: None,
            limits: TransportLimits::default(),
        }
    }
}

impl Rig {
    pub(crate) fn start(wanted: Wanted<'_>) -> Self {
        let listeners = wanted.listeners.iter();
        let listening = bind(TransportConfig {
            listeners: listeners
                .map(|(transport, address)| (*transport, address.parse().unwrap()))
                .collect(),
            tls: wanted.tls,
            upstream_ca: wanted.upstream_ca.map(Path::to_owned),
            frames: FrameLimits {
                message_bytes: 65_536,
                headers: 128,
            },
            first_connection: 1 << 40,
            limits: wanted.limits,
        })
        .unwrap();
        let addresses = listening.addresses().to_vec();
        let (network, inputs) = mpsc::channel(1024);
        let (answer, answers) = mpsc::channel(1024);
        let counts = Counts::default();
        let queues = ShardQueues {
            network,
            answers: answer,
        };
        let inlet = Inlet::new(vec![queues], &[0; 32], counts.clone());
        Self {
            network: listening.start(Arc::new(inlet)),
            addresses,
            counts,
            inputs,
            answers,
        }
    }

    /// The next input from a peer.
    pub(crate) async fn input(&mut self) -> Input {
        soon(self.inputs.recv()).await.unwrap()
    }

    /// The next input, which must be a message.
    pub(crate) async fn message(&mut self) -> (Flow, Bytes) {
        match self.input().await {
            Input::Message { flow, message } => (flow, message.raw().clone()),
            other => panic!("not a message: {other:?}"),
        }
    }

    pub(crate) fn send(&self, flow: Flow, message: &'static str) {
        let to = Destination::Flow(flow.id);
        let message = Bytes::from_static(message.as_bytes());
        self.network.send(&to, message, None).unwrap();
    }
}

/// Fails if it does not come within two seconds.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(2), what)
        .await
        .unwrap()
}

/// Reads so many bytes.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// Reads to the end, which must come.
pub(crate) async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    drop(soon(stream.read_to_end(&mut bytes)).await);
    bytes
}
