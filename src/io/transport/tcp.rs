//! Connections that others open: accepting them, the TLS handshake, the request for a WebSocket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::io::transport::admission::{Full, Place, Share};
use crate::io::transport::connection::Connection;
use crate::io::transport::tls::TlsServer;
use crate::io::transport::upgrade::upgrade;
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
    let (place, share) = match admitted {
        Ok(admitted) => admitted,
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
    if let Err(error) = socket::prepare(&stream) {
        tracing::debug!(%error, "connection ended before it began");
        refused.accept.inc();
        return;
    }
    let network = Arc::clone(network);
    match (flow.transport, &network.tls) {
        (Transport::Tls | Transport::Wss, Some(tls)) => {
            let tls = Arc::clone(tls);
            tokio::spawn(async move {
                if let Some(stream) = handshake(&network, &tls, stream).await {
                    begin(&network, stream, flow, share, place).await;
                }
            });
        }
        (Transport::Ws, _) => {
            tokio::spawn(async move { begin(&network, stream, flow, share, place).await });
        }
        (Transport::Tls | Transport::Wss, None) | (Transport::Tcp | Transport::Udp, _) => {
            serve(&network, stream, network.inbound(flow, share), place);
        }
    }
}

/// Serves a stream once it is a WebSocket, if it is to be one.
async fn begin<S>(
    network: &Arc<Network>,
    mut stream: S,
    flow: Flow,
    share: Option<Share>,
    place: Place,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if flow.transport.is_websocket() {
        let upgraded = timeout(network.limits.handshake, upgrade(&mut stream)).await;
        let reason = match upgraded {
            Ok(Ok(())) => None,
            Ok(Err(refusal)) => Some(refusal.to_string()),
            Err(elapsed) => Some(elapsed.to_string()),
        };
        if let Some(reason) = reason {
            network.counts().refused.upgrade.inc();
            tracing::debug!(reason, "no websocket");
            return;
        }
    }
    serve(network, stream, network.inbound(flow, share), place);
}

/// Starts the connection's task: its own, so that the room that the handshake took is free again.
fn serve<S>(network: &Arc<Network>, stream: S, connection: Arc<Connection>, place: Place)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let task = network.task(stream, connection);
    let network = Arc::clone(network);
    tokio::spawn(async move {
        network.run(task).await;
        drop(place);
    });
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
