//! Loopback addresses that nobody else uses, so that servers can stand on SIP's own ports.
//!
//! All of 127.0.0.0/8 is local. A test binary takes 127.A.B.0/24 by A and B of its process id and
//! holds a port in it as a lease against another binary with the same two octets.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// The lease on a block and the last octet given out.
struct Block {
    lease: TcpListener,
    used: u8,
}

static BLOCK: Mutex<Option<Block>> = Mutex::new(None);

/// The port of 127.A.B.254 that stands for the whole block.
const LEASE_PORT: u16 = 4999;

/// Returns an address that this process has not given out before.
pub(crate) fn address() -> Ipv4Addr {
    let mut block = BLOCK.lock().expect("no holder of this lock panics");
    if block.as_ref().is_none_or(|block| block.used == 253) {
        *block = Some(lease());
    }
    let block = block.as_mut().expect("it was filled above");
    block.used += 1;
    let std::net::IpAddr::V4(leased) = block.lease.local_addr().expect("it is bound").ip() else {
        panic!("the lease is on an IPv4 address");
    };
    let [a, b, c, _] = leased.octets();
    Ipv4Addr::new(a, b, c, block.used)
}

fn lease() -> Block {
    let first = std::process::id();
    for number in first..first + 1000 {
        let [_, _, b, c] = number.to_be_bytes();
        // 127.0 is left to everything else on the machine.
        let address = Ipv4Addr::new(127, b | 0x40, c, 254);
        if let Ok(lease) = TcpListener::bind((address, LEASE_PORT)) {
            return Block { lease, used: 0 };
        }
    }
    panic!("no free block of loopback addresses");
}
