//! Connections that others open: accepting them, and the TLS handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::io::transport::admission::{Full, Place};
use crate::io::transport::tls::TlsServer;
use crate::io::transport::{Network, socket};
use crate::proto::{Flow, ListenerId, Transport};

/// How long to wait when the operating system cannot accept: it has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener of streams.
#[derive(Debug)]
pub(super) struct StreamListener {
    pub(super) id: ListenerId,
    pub(super) transport: Transport,
    pub(super) listener: TcpListener,
}

/// Accepts for ever.
pub(super) async fn accept(network: Arc<Network>, listener: StreamListener) {
    loop {
        match listener.listener.accept().await {
            Ok((stream, remote)) => admit(&network, &listener, stream, remote),
            Err(error) => {
                network.counts().refused.accept.inc();
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(network: &Arc<Network>, listener: &StreamListener, stream: TcpStream, remote: SocketAddr) {
    let remote = socket::canonical(remote);
    let refused = &network.counts().refused;
    let admitted = network
        .admission
        .admit(remote.ip(), || network.evict_stranger());
    let place = match admitted {
        Ok(place) => place,
        Err(Full::Address) => {
            refused.address.inc();
            return;
        }
        Err(Full::Total) => {
            refused.total.inc();
            return;
        }
    };
    let flow = Flow {
        id: network.next_flow(),
        listener: listener.id,
        remote,
        transport: listener.transport,
    };
    tokio::spawn(serve(Arc::clone(network), stream, flow, place));
}

async fn serve(network: Arc<Network>, stream: TcpStream, flow: Flow, _place: Place) {
    if let Err(error) = socket::prepare(&stream) {
        tracing::debug!(%error, "connection ended before it began");
        network.counts().refused.accept.inc();
        return;
    }
    match (flow.transport, &network.tls) {
        (Transport::Tls | Transport::Wss, Some(tls)) => {
            if let Some(stream) = handshake(&network, tls, stream).await {
                network.run(stream, network.connection(flow, false)).await;
            }
        }
        (Transport::Tls | Transport::Wss, None)
        | (Transport::Tcp | Transport::Udp | Transport::Ws, _) => {
            network.run(stream, network.connection(flow, false)).await;
        }
    }
}

async fn handshake(
    network: &Network,
    tls: &TlsServer,
    stream: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let shaken = timeout(network.limits.handshake, async {
        // Many at once would let none finish in time.
        let _turn = network.handshakes.acquire().await;
        tls.acceptor().accept(stream).await
    });
    let reason = match shaken.await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error.to_string(),
        Err(elapsed) => elapsed.to_string(),
    };
    network.counts().refused.handshake.inc();
    tracing::debug!(reason, "tls handshake failed");
    None
}
