//! Connections that we open toward upstream: one per hop, opened when something is to be sent.
//!
//! Messages wait in the connection's own queue while it opens. A connection that cannot be opened
//! answers every waiting report, so that the transaction tries the next hop at once.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::io::transport::connection::Connection;
use crate::io::transport::{Network, socket, tls};
use crate::proto::{Hop, Transport};

enum Opened {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(super) async fn run(network: Arc<Network>, hop: Hop, connection: Arc<Connection>) {
    let opened = match timeout(network.limits.connect, open(&network, &hop)).await {
        Ok(opened) => opened,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match opened {
        Ok(Opened::Plain(stream)) => {
            let task = network.task(stream, Arc::clone(&connection));
            network.run(task).await;
        }
        Ok(Opened::Tls(stream)) => {
            let task = network.task(stream, Arc::clone(&connection));
            network.run(task).await;
        }
        Err(error) => {
            network.counts().refused.connect.inc();
            let (address, transport) = (hop.address, hop.transport.label());
            tracing::warn!(%address, transport, %error, "cannot connect to upstream");
            network.abandon(&connection).await;
        }
    }
    network.forget_hop(&hop, &connection);
}

async fn open(network: &Network, hop: &Hop) -> io::Result<Opened> {
    let stream = TcpStream::connect(hop.address).await?;
    socket::prepare(&stream)?;
    match hop.transport {
        Transport::Tcp => Ok(Opened::Plain(stream)),
        Transport::Tls => {
            let name = tls::server_name(hop).ok_or(io::ErrorKind::InvalidInput)?;
            let connector = network.upstream_tls.connector();
            let stream = connector.connect(name, stream).await?;
            Ok(Opened::Tls(Box::new(stream)))
        }
        Transport::Udp | Transport::Ws | Transport::Wss => Err(io::ErrorKind::Unsupported.into()),
    }
}
