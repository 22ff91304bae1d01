//! Who holds a port: for the sentence that says why we cannot listen.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::proto::Transport;

/// Names the process that holds an address's port, as far as we may look.
pub(super) fn holder(transport: Transport, address: SocketAddr) -> Option<String> {
    let tables = if transport == Transport::Udp {
        ["/proc/net/udp", "/proc/net/udp6"]
    } else {
        ["/proc/net/tcp", "/proc/net/tcp6"]
    };
    tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok()) // dropped: no IPv6, no table
        .find_map(|table| inode(&table, address, transport))
        .and_then(|inode| process(&inode))
}

/// The inode of the socket that is in the way of an address.
fn inode(table: &str, address: SocketAddr, transport: Transport) -> Option<String> {
    // proc_net(5): local address in field 1, state in field 3 (0A: listening), inode in field 9.
    let (ours, port) = (hex(address.ip()), format!("{:04X}", address.port()));
    let is_any = |ip: &str| ip.bytes().all(|digit| digit == b'0');
    let is_in_the_way = |local: &str| {
        local.split_once(':').is_some_and(|(ip, taken)| {
            taken == port && (ip == ours || is_any(ip) || address.ip().is_unspecified())
        })
    };
    let mut rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_ascii_whitespace().collect::<Vec<&str>>());
    let row = rows.find(|row| {
        row.get(1).is_some_and(|local| is_in_the_way(local))
            && (transport == Transport::Udp || row.get(3) == Some(&"0A"))
    })?;
    row.get(9).map(|inode| (*inode).to_owned())
}

/// An address as the kernel's tables write it: words of four bytes in the machine's order.
fn hex(ip: IpAddr) -> String {
    let octets = match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (words, _) = octets.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_ne_bytes(*word));
    words.map(|word| format!("{word:08X}")).collect()
}

/// The process that has a socket open; only our own, unless we are root.
fn process(inode: &str) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    // dropped below: processes end while we look, and others are not ours to look at.
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // `self` and `thread-self` are there too.
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(open) = fs::read_dir(path.join("fd")) else {
            continue;
        };
        let holds = open.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        });
        if holds {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_holder_of_a_port_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            let address = socket.local_addr().unwrap();
            let holder = holder(Transport::Udp, address).unwrap();
            assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        }
    }

    #[test]
    fn a_port_of_another_address_is_not_in_the_way() {
        let table = "sl local_address rem_address st tx rx tr tm retrnsmt uid timeout inode\n\
            1: 0200007F:13C4 00000000:0000 0A 0:0 00:0 0 0 0 11\n\
            2: 0100007F:13C4 00000000:0000 0A 0:0 00:0 0 0 0 22\n";
        let inode = |address: &str| inode(table, address.parse().unwrap(), Transport::Tcp);
        assert_eq!(inode("127.0.0.1:5060").as_deref(), Some("22"));
        assert_eq!(inode("127.0.0.3:5060"), None);
        assert_eq!(inode("0.0.0.0:5060").as_deref(), Some("11"));
    }
}
