//! TCP and TLS toward a push service: several addresses tried side by side (RFC 8305), one budget.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// RFC 8305 §5: how long one address has a head start on the next.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Which addresses may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any: an operator wrote the name.
    Any,
    /// Public ones, and those of these networks: the name came from outside.
    Public(Arc<[IpNet]>),
}

impl Reach {
    fn allows(&self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Public(others) => {
                let ip = ip.to_canonical();
                is_public(ip) || others.iter().any(|net| net.contains(&ip))
            }
        }
    }
}

/// A name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Where the name may lead.
    pub(super) reach: Reach,
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
    let mut addresses = match endpoint.host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, endpoint.port)],
        Err(_) => interleave(
            tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
                .await?
                .collect(),
        ),
    };
    // Checked after the name was resolved: a name may lead anywhere.
    let found = addresses.len();
    addresses.retain(|address| endpoint.reach.allows(address.ip()));
    let mut failure = io::Error::new(
        io::ErrorKind::NotFound,
        if found > addresses.len() {
            "the name leads to a private address"
        } else {
            "the name has no address"
        },
    );
    let mut attempts = JoinSet::new();
    let mut delay = Duration::ZERO;
    for address in addresses {
        attempts.spawn(async move {
            tokio::time::sleep(delay).await;
            TcpStream::connect(address).await
        });
        delay += ATTEMPT_DELAY;
    }
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

/// Whether an address is one of the public Internet's.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let is_special = matches!(
                (a, b, c),
                (0 | 10 | 127 | 224.., _, _)
                    | (100, 64..=127, _)
                    | (169, 254, _)
                    | (172, 16..=31, _)
                    | (192, 0, 0 | 2)
                    | (192, 88, 99)
                    | (192, 168, _)
                    | (198, 18..=19, _)
                    | (198, 51, 100)
                    | (203, 0, 113)
            );
            !is_special
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // Global unicast is 2000::/3; of it Teredo and ORCHID, documentation and 6to4 are not,
            // and a NAT64 prefix may lead back into a private network.
            a & 0xe000 == 0x2000
                && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
                && a != 0x2002
                && a & 0xfff0 != 0x3ff0
        }
    }
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
    use super::{Reach, interleave};

    #[test]
    fn a_name_from_outside_leads_to_no_private_address() {
        let others: Vec<ipnet::IpNet> = vec!["10.1.0.0/16".parse().unwrap()];
        let reach = Reach::Public(others.into());
        for (address, allowed) in [
            ("93.184.216.34", true),
            ("2606:2800:220:1::1", true),
            ("10.1.2.3", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.20.0.1", false),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.1.2.3", true),
            ("::127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::", false),
        ] {
            assert_eq!(reach.allows(address.parse().unwrap()), allowed, "{address}");
            assert!(Reach::Any.allows(address.parse().unwrap()));
        }
    }

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
