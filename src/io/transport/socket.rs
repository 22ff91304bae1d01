//! Listening sockets and their options.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::proto::Transport;

/// Room for bursts of datagrams; the operating system may grant less (`net.core.rmem_max`).
const DATAGRAM_BUFFER: usize = 4 * 1024 * 1024;
const BACKLOG: i32 = 4096;
/// A peer that does not acknowledge for so long is gone: its device is asleep.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether an IPv6 listener must leave IPv4 to a listener beside it.
pub(super) fn is_v6_only(all: &[(Transport, SocketAddr)], own: (Transport, SocketAddr)) -> bool {
    let (transport, address) = own;
    let SocketAddr::V6(address) = address else {
        return false;
    };
    let has_v4_beside = all.iter().any(|(other, at)| {
        at.is_ipv4()
            && at.port() == address.port()
            && other.is_reliable() == transport.is_reliable()
    });
    *address.ip() != Ipv6Addr::UNSPECIFIED || has_v4_beside
}

pub(super) fn listen_stream(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of the last process may linger; a second listener is refused all the same.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

pub(super) fn listen_datagram(address: SocketAddr, v6_only: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    socket.set_recv_buffer_size(DATAGRAM_BUFFER)?;
    socket.set_send_buffer_size(DATAGRAM_BUFFER)?;
    socket.set_nonblocking(true)?;
    // No SO_REUSEADDR: on Linux it would let a second process take our datagrams.
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Takes a socket that somebody else has bound.
pub(super) fn adopt_stream(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Takes a socket that somebody else has bound.
pub(super) fn adopt_datagram(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Sets what every connection needs: no delay, and an end when the peer is gone.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(180))
            .with_interval(Duration::from_secs(30))
            .with_retries(3),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// An IPv4 address is shown as one even where a dual-stack socket maps it (RFC 4291 §2.5.5.2).
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The form of an address that a socket of this family takes.
pub(super) fn for_family(address: SocketAddr, is_v6: bool) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if is_v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_listener_leaves_ipv4_to_one_beside_it() {
        let udp4 = (Transport::Udp, "0.0.0.0:5060".parse().unwrap());
        let tcp4 = (Transport::Tcp, "0.0.0.0:5061".parse().unwrap());
        let udp6 = (Transport::Udp, "[::]:5060".parse().unwrap());
        let tls6 = (Transport::Tls, "[::]:5061".parse().unwrap());
        let all = [udp4, tcp4, udp6, tls6];
        assert!(is_v6_only(&all, udp6));
        assert!(is_v6_only(&all, tls6));
        assert!(!is_v6_only(&[udp6, tcp4], udp6));
        assert!(!is_v6_only(&[udp6, tls6], tls6));
    }

    #[test]
    fn a_mapped_address_is_shown_as_ipv4() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5060".parse().unwrap();
        let plain: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        assert_eq!(canonical(mapped), plain);
        assert_eq!(for_family(plain, true), mapped);
        assert_eq!(for_family(plain, false), plain);
    }
}
