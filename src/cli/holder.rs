//! Who holds a port: for the sentence that says why we cannot listen.

use std::fs;
use std::net::SocketAddr;

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
        .find_map(|table| inode(&table, address.port(), transport))
        .and_then(|inode| process(&inode))
}

/// The inode of the socket that is bound to a port.
fn inode(table: &str, port: u16, transport: Transport) -> Option<String> {
    // proc_net(5): local address in field 1, state in field 3 (0A: listening), inode in field 9.
    let port = format!(":{port:04X}");
    let mut rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_ascii_whitespace().collect::<Vec<&str>>());
    let row = rows.find(|row| {
        row.get(1).is_some_and(|local| local.ends_with(&port))
            && (transport == Transport::Udp || row.get(3) == Some(&"0A"))
    })?;
    row.get(9).map(|inode| (*inode).to_owned())
}

/// The process that has a socket open; only our own, unless we are root.
fn process(inode: &str) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    // dropped below: processes end while we look, and others are not ours to look at.
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let path = entry.path();
        let Ok(open) = fs::read_dir(path.join("fd")) else {
            continue;
        };
        let holds = open.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        });
        if holds {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            let pid = entry.file_name();
            return Some(format!("{} (process {})", name.trim(), pid.display()));
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
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let holder = holder(Transport::Udp, address).unwrap();
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    }
}
