//! What the configuration's defaults take from the machine: its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// This machine's addresses as others see them, NAT aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The IPv4 address that packets to the world leave from; `None` without a route.
    pub ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

impl Host {
    /// Asks the routing table; nothing is sent.
    #[must_use]
    pub fn detect() -> Self {
        // RFC 5737 §3 and RFC 3849: addresses of nobody, which the default route covers.
        let ipv4 = source_towards(
            (Ipv4Addr::UNSPECIFIED, 0).into(),
            (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
        );
        let ipv6 = source_towards(
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
        );
        Self {
            ipv4: ipv4.and_then(|address| match address {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(_) => None,
            }),
            ipv6: ipv6.and_then(|address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(v6) => Some(v6),
            }),
        }
    }
}

/// The address that a datagram would leave from; connecting a UDP socket sends none.
fn source_towards(from: SocketAddr, to: SocketAddr) -> Option<IpAddr> {
    // dropped: a machine without that address family or route has no such address.
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified() && !source.is_loopback()).then_some(source)
}
