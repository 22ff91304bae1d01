//! A capture file: pcapng, each message as a datagram of its own.
//!
//! What came over TCP, TLS or a WebSocket is shown as if it had been a datagram between the same
//! addresses, so that any tool can read it; a comment on the packet says what it came over.

use super::{Ends, Packet};

/// Packets begin with their IP header.
const RAW_IP: u16 = 101;
const UDP: u8 = 17;
const TTL: u8 = 64;
/// A datagram's length has 16 bits.
const LARGEST: usize = 65_000;

/// What stands at the beginning of the file: its section, and the one interface.
#[must_use]
pub fn head() -> Vec<u8> {
    let mut out = Vec::new();
    let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    section.extend_from_slice(&[1, 0, 0, 0]);
    section.extend_from_slice(&u64::MAX.to_le_bytes());
    option(
        &mut section,
        4,
        concat!("Rouse ", env!("CARGO_PKG_VERSION")),
    );
    section.extend_from_slice(&[0; 4]);
    block(&mut out, 0x0a0d_0d0a, &section);
    let mut interface = RAW_IP.to_le_bytes().to_vec();
    interface.extend_from_slice(&[0; 6]);
    option(&mut interface, 2, "rouse");
    interface.extend_from_slice(&[0; 4]);
    block(&mut out, 1, &interface);
    out
}

/// One message; `None` if it is larger than a datagram can be.
#[must_use]
pub fn packet(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let frame = frame(packet)?;
    let length = u32::try_from(frame.len()).ok()?.to_le_bytes();
    let mut body = vec![0; 4];
    let [high, low] = halves(packet.unix_us);
    body.extend_from_slice(&high.to_le_bytes());
    body.extend_from_slice(&low.to_le_bytes());
    body.extend_from_slice(&length);
    body.extend_from_slice(&length);
    body.extend_from_slice(&frame);
    pad(&mut body);
    option(&mut body, 1, packet.transport.label());
    body.extend_from_slice(&[0; 4]);
    let mut out = Vec::with_capacity(body.len() + 12);
    block(&mut out, 6, &body);
    Some(out)
}

fn halves(number: u64) -> [u32; 2] {
    let half = |number: u64| u32::try_from(number & 0xffff_ffff).unwrap_or(u32::MAX);
    [half(number >> 32), half(number)]
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&length.to_le_bytes());
}

fn option(out: &mut Vec<u8>, kind: u16, text: &str) {
    out.extend_from_slice(&kind.to_le_bytes());
    let length = u16::try_from(text.len()).unwrap_or_default();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    while !out.len().is_multiple_of(4) {
        out.push(0);
    }
}

/// The message behind headers of IP and UDP.
fn frame(packet: &Packet<'_>) -> Option<Vec<u8>> {
    if packet.bytes.len() > LARGEST {
        return None;
    }
    let length = u16::try_from(packet.bytes.len() + 8).ok()?;
    let mut udp = packet.source.port().to_be_bytes().to_vec();
    udp.extend_from_slice(&packet.destination.port().to_be_bytes());
    udp.extend_from_slice(&length.to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(packet.bytes);
    let (mut ip, addresses) = match Ends::of(packet) {
        Ends::V4(source, destination) => {
            let addresses = [source.octets(), destination.octets()].concat();
            let all = length.checked_add(20)?.to_be_bytes();
            let mut ip = vec![0x45, 0, all[0], all[1], 0, 0, 0x40, 0, TTL, UDP, 0, 0];
            ip.extend_from_slice(&addresses);
            let sum = checksum(&[&ip]).to_be_bytes();
            ip.get_mut(10..12)?.copy_from_slice(&sum);
            (ip, addresses)
        }
        Ends::V6(source, destination) => {
            let addresses = [source.octets(), destination.octets()].concat();
            let all = length.to_be_bytes();
            let mut ip = vec![0x60, 0, 0, 0, all[0], all[1], UDP, TTL];
            ip.extend_from_slice(&addresses);
            (ip, addresses)
        }
    };
    let pseudo = [0, UDP, length.to_be_bytes()[0], length.to_be_bytes()[1]];
    let sum = match checksum(&[&addresses, &pseudo, &udp]) {
        // Zero would say that there is none.
        0 => u16::MAX,
        sum => sum,
    };
    udp.get_mut(6..8)?.copy_from_slice(&sum.to_be_bytes());
    ip.append(&mut udp);
    Some(ip)
}

/// The Internet's checksum over parts, each but the last of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let high = pair.first().copied().unwrap_or_default();
            let low = pair.get(1).copied().unwrap_or_default();
            sum += u32::from(u16::from_be_bytes([high, low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    let sum = u16::try_from(sum & 0xffff).unwrap_or_default();
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Transport;

    #[test]
    fn a_block_says_its_length_twice_and_its_checksums_are_right() {
        let message = b"OPTIONS sip:a SIP/2.0\r\n\r\n";
        for (source, destination) in [
            ("192.0.2.1:5060", "192.0.2.2:5080"),
            ("[2001:db8::1]:5060", "[2001:db8::2]:5061"),
        ] {
            let told = Packet {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                transport: Transport::Tls,
                unix_us: 1_700_000_000_000_123,
                bytes: message,
            };
            let block = packet(&told).unwrap();
            assert_eq!(block.len() % 4, 0);
            let length = u32::try_from(block.len()).unwrap().to_le_bytes();
            assert_eq!(
                (&block[4..8], &block[block.len() - 4..]),
                (&length[..], &length[..])
            );
            let frame = frame(&told).unwrap();
            let head = if frame[0] == 0x45 {
                // A header with its own sum adds up to nothing.
                assert_eq!(checksum(&[&frame[..20]]), 0);
                20
            } else {
                40
            };
            let addresses = if head == 20 {
                &frame[12..20]
            } else {
                &frame[8..40]
            };
            let udp = &frame[head..];
            assert_eq!(checksum(&[addresses, &[0, UDP], &udp[4..6], udp]), 0);
            assert!(frame.ends_with(message));
        }
    }

    #[test]
    fn what_is_too_large_is_left_out() {
        let bytes = vec![b'x'; LARGEST + 1];
        let told = Packet {
            source: "192.0.2.1:5060".parse().unwrap(),
            destination: "192.0.2.2:5080".parse().unwrap(),
            transport: Transport::Tcp,
            unix_us: 0,
            bytes: &bytes,
        };
        assert!(packet(&told).is_none());
    }
}
