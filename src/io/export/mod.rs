//! For the tools of others: messages by HEP toward Homer or sngrep and as pcapng for Wireshark; calls to
//! a collector of OpenTelemetry (feature `otlp`).
//!
//! The first two get the message as it passed our socket, with the addresses on both sides of it, decrypted.

pub mod hep;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod pcapng;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::proto::Transport;

/// One message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// From where.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// When, microseconds since the Unix epoch.
    pub unix_us: u64,
    /// The message.
    pub bytes: &'a [u8],
}

/// Both addresses, of one family.
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Ends {
    fn of(packet: &Packet<'_>) -> Self {
        match (packet.source.ip(), packet.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::V4(source, destination),
            (source, destination) => Self::V6(mapped(source), mapped(destination)),
        }
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}
