//! TCP and TLS toward a push service: several addresses tried side by side (RFC 8305), one budget.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// RFC 8305 §5: how long one address has a head start on the next.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host, IPv6 without brackets.
    pub(super) host: String,
    /// Port.
    pub(super) port: u16,
}

/// Connects and shakes hands; the caller bounds the time.
pub(super) async fn connect_tls(
    endpoint: &Endpoint,
    name: &ServerName<'static>,
    config: &Arc<rustls::ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = connect_tcp(endpoint).await?;
    TlsConnector::from(Arc::clone(config))
        .connect(name.clone(), stream)
        .await
}

/// Connects to the first address that answers.
pub(super) async fn connect_tcp(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let addresses = match endpoint.host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, endpoint.port)],
        Err(_) => interleave(
            tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
                .await?
                .collect(),
        ),
    };
    let mut attempts = JoinSet::new();
    let mut delay = Duration::ZERO;
    for address in addresses {
        attempts.spawn(async move {
            tokio::time::sleep(delay).await;
            TcpStream::connect(address).await
        });
        delay += ATTEMPT_DELAY;
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(error) => failure = io::Error::other(error),
        }
    }
    Err(failure)
}

/// RFC 8305 §4: alternates the families, the first one first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let (one, other) = (first.next(), second.next());
        if one.is_none() && other.is_none() {
            return merged;
        }
        merged.extend(one);
        merged.extend(other);
    }
}

#[cfg(test)]
mod tests {
    use super::interleave;

    #[test]
    fn families_alternate_and_the_first_one_leads() {
        let parse = |texts: &[&str]| -> Vec<std::net::SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let mixed = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"]);
        assert_eq!(
            interleave(mixed),
            parse(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"])
        );
        assert_eq!(interleave(Vec::new()), Vec::new());
    }
}
