//! HEP version 3 (EEP): one datagram for each message, to a Homer or an sngrep.
//!
//! Exporting waits for nothing: what does not fit into the queue or the network is dropped and
//! counted.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::{Ends, Packet};
use crate::proto::Transport;

/// Packets that may wait to be sent.
const QUEUE: usize = 2048;
/// The largest payload of a datagram over IPv4.
const LARGEST: usize = 65_507;
/// How often the collector's name is looked up, and how soon again after that failed.
const LOOK_UP: Duration = Duration::from_secs(60);
/// HEP's number for SIP.
const SIP: u8 = 1;

/// To whom, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// HOST:PORT.
    pub collector: String,
    /// What the collector knows us by.
    pub node: u32,
    /// What it wants to be shown, if it does.
    pub password: Option<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("collector", &self.collector)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// Sends what it is given.
#[derive(Debug)]
pub struct Exporter {
    settings: Settings,
    queue: mpsc::Sender<Vec<u8>>,
    dropped: Counter,
}

impl Exporter {
    /// Begins; ends when it is dropped.
    #[must_use]
    pub fn start(settings: Settings, dropped: Counter) -> Self {
        let (queue, packets) = mpsc::channel(QUEUE);
        tokio::spawn(send(settings.collector.clone(), packets, dropped.clone()));
        Self {
            settings,
            queue,
            dropped,
        }
    }

    /// Sends a message, or counts that it did not.
    pub fn export(&self, packet: &Packet<'_>) {
        let encoded = encode(packet, &self.settings);
        let is_sent = encoded.is_some_and(|encoded| self.queue.try_send(encoded).is_ok());
        if !is_sent {
            self.dropped.inc();
        }
    }
}

async fn send(collector: String, mut packets: mpsc::Receiver<Vec<u8>>, dropped: Counter) {
    let mut socket = None;
    let mut due = tokio::time::Instant::now();
    let mut was_reached = true;
    while let Some(packet) = packets.recv().await {
        if tokio::time::Instant::now() >= due {
            due = tokio::time::Instant::now() + LOOK_UP;
            match open(&collector).await {
                Ok(opened) => {
                    was_reached = true;
                    socket = Some(opened);
                }
                // The last address may still be right. Said once, until it works again.
                Err(error) if was_reached => {
                    was_reached = false;
                    tracing::warn!(collector, %error, "HEP collector not reached");
                }
                Err(_) => {}
            }
        }
        let sent = match &socket {
            Some((socket, address)) => socket.send_to(&packet, address).await.is_ok(),
            None => false,
        };
        if !sent {
            dropped.inc();
        }
    }
}

async fn open(collector: &str) -> std::io::Result<(UdpSocket, SocketAddr)> {
    let mut addresses = tokio::net::lookup_host(collector).await?;
    let address = addresses
        .next()
        .ok_or_else(|| std::io::Error::other("its name has no address"))?;
    let any: SocketAddr = if address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    Ok((UdpSocket::bind(any).await?, address))
}

/// Writes a packet; `None` if it is larger than any datagram.
fn encode(packet: &Packet<'_>, settings: &Settings) -> Option<Vec<u8>> {
    let mut out = b"HEP3\0\0".to_vec();
    out.reserve(packet.bytes.len() + 128);
    let ends = Ends::of(packet);
    let (family, protocol) = match (&ends, packet.transport) {
        (Ends::V4(..), transport) => (2, ip_protocol(transport)),
        (Ends::V6(..), transport) => (10, ip_protocol(transport)),
    };
    chunk(&mut out, 1, &[family])?;
    chunk(&mut out, 2, &[protocol])?;
    match ends {
        Ends::V4(source, destination) => {
            chunk(&mut out, 3, &source.octets())?;
            chunk(&mut out, 4, &destination.octets())?;
        }
        Ends::V6(source, destination) => {
            chunk(&mut out, 5, &source.octets())?;
            chunk(&mut out, 6, &destination.octets())?;
        }
    }
    chunk(&mut out, 7, &packet.source.port().to_be_bytes())?;
    chunk(&mut out, 8, &packet.destination.port().to_be_bytes())?;
    let seconds = u32::try_from(packet.unix_us / 1_000_000).ok()?;
    let micros = u32::try_from(packet.unix_us % 1_000_000).ok()?;
    chunk(&mut out, 9, &seconds.to_be_bytes())?;
    chunk(&mut out, 10, &micros.to_be_bytes())?;
    chunk(&mut out, 11, &[SIP])?;
    chunk(&mut out, 12, &settings.node.to_be_bytes())?;
    if let Some(password) = &settings.password {
        chunk(&mut out, 14, password.as_bytes())?;
    }
    chunk(&mut out, 15, packet.bytes)?;
    if out.len() > LARGEST {
        return None;
    }
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    out.get_mut(4..6)?.copy_from_slice(&length);
    Some(out)
}

const fn ip_protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 17,
        Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => 6,
    }
}

/// A chunk: vendor 0, its kind, its length with this head, its value.
fn chunk(out: &mut Vec<u8>, kind: u16, value: &[u8]) -> Option<()> {
    let length = u16::try_from(value.len().checked_add(6)?).ok()?;
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            collector: "127.0.0.1:9060".to_owned(),
            node: 2001,
            password: Some("secret".to_owned()),
        }
    }

    #[test]
    fn a_packet_is_as_the_protocol_has_it() {
        let packet = Packet {
            source: "192.0.2.1:5060".parse().unwrap(),
            destination: "192.0.2.2:5080".parse().unwrap(),
            transport: Transport::Udp,
            unix_us: 1_700_000_000_000_123,
            bytes: b"SIP",
        };
        let encoded = encode(&packet, &settings()).unwrap();
        let mut expected = b"HEP3".to_vec();
        let chunks: [(u16, &[u8]); 12] = [
            (1, &[2]),
            (2, &[17]),
            (3, &[192, 0, 2, 1]),
            (4, &[192, 0, 2, 2]),
            (7, &[0x13, 0xc4]),
            (8, &[0x13, 0xd8]),
            (9, &[0x65, 0x53, 0xf1, 0x00]),
            (10, &[0, 0, 0, 123]),
            (11, &[1]),
            (12, &[0, 0, 0x07, 0xd1]),
            (14, b"secret"),
            (15, b"SIP"),
        ];
        let length: usize = chunks.iter().map(|(_, value)| value.len() + 6).sum();
        expected.extend_from_slice(&u16::try_from(length + 6).unwrap().to_be_bytes());
        for (kind, value) in chunks {
            expected.extend_from_slice(&[0, 0]);
            expected.extend_from_slice(&kind.to_be_bytes());
            expected.extend_from_slice(&u16::try_from(value.len() + 6).unwrap().to_be_bytes());
            expected.extend_from_slice(value);
        }
        assert_eq!(encoded, expected);
        assert!(!format!("{:?}", settings()).contains("secret"));
    }

    #[test]
    fn what_is_larger_than_a_datagram_is_not_sent() {
        let bytes = vec![b'x'; LARGEST - 60];
        let mut packet = Packet {
            source: "[2001:db8::1]:5060".parse().unwrap(),
            destination: "192.0.2.2:5080".parse().unwrap(),
            transport: Transport::Tls,
            unix_us: 0,
            bytes: &bytes,
        };
        assert!(encode(&packet, &settings()).is_none());
        packet.bytes = &bytes[..1000];
        let encoded = encode(&packet, &settings()).unwrap();
        // Its first chunk: IPv6, for one side has it.
        assert_eq!(&encoded[6..13], [0, 0, 0, 1, 0, 7, 10]);
    }
}
