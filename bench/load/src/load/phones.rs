//! The agents' phones: how they come, sleep, and come back by another way.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Load, PER_ADDRESS, PHONES, Phone, Wire};
use crate::net::Peer;

impl Load {
    /// Adds agents with a phone each: datagrams from `sockets` ports, or a stream for each.
    pub fn add_phones(&mut self, count: usize, wire: Wire, sockets: usize) -> Result<()> {
        let first = self.phones.len();
        match wire {
            Wire::Udp => {
                let mut peers = Vec::new();
                for index in 0..sockets {
                    let port = 20_000 + u16::try_from(index)?;
                    let address = SocketAddrV4::new(PHONES, port);
                    let socket = self.net.udp(address)?;
                    let to = self.server.plain;
                    peers.push((Peer { socket, to }, address));
                }
                for index in 0..count {
                    let (peer, address) = peers[index % sockets];
                    self.phones.push(Phone {
                        peer,
                        address,
                        wire,
                    });
                }
            }
            Wire::Tcp | Wire::Tls => {
                // Kamailio 5.6 with OpenSSL 3 corrupts its memory when two of its children shake
                // hands at once.
                let at_once = if wire == Wire::Tls { 1 } else { 64 };
                for index in 0..count {
                    let phone = self.open(first + index, wire)?;
                    self.phones.push(phone);
                    if (index + 1) % at_once == 0 {
                        self.until(Duration::from_secs(20), |load| load.net.is_ready())?;
                    }
                }
                self.until(Duration::from_secs(60), |load| load.net.is_ready())?;
            }
        }
        self.uris.resize(self.phones.len(), None);
        Ok(())
    }

    fn open(&mut self, index: usize, wire: Wire) -> Result<Phone> {
        let is_tls = wire == Wire::Tls;
        let to = if is_tls {
            self.server.tls
        } else {
            self.server.plain
        };
        let block = u8::try_from(index / PER_ADDRESS)?;
        let from = Ipv4Addr::new(127, 0, 2 + block, 1);
        let peer = self.net.connect(to, from.into(), is_tls)?;
        let address = self.net.local(peer).context("a stream has no address")?;
        Ok(Phone {
            peer,
            address,
            wire,
        })
    }

    /// Closes the streams of agents: they sleep from here on.
    pub fn sleep(&mut self, users: std::ops::Range<usize>) {
        for user in users {
            self.net.close(self.phones[user].peer);
        }
    }

    /// Has phones on streams open others, without a word.
    pub fn reopen(&mut self, users: std::ops::Range<usize>) -> Result<()> {
        for user in users {
            self.phones[user] = self.open(user, self.phones[user].wire)?;
        }
        self.until(Duration::from_secs(60), |load| load.net.is_ready())
    }

    /// Gives sleeping agents another phone, on datagrams.
    pub fn move_to_udp(&mut self, users: std::ops::Range<usize>, sockets: usize) -> Result<()> {
        let kept = self.phones.len();
        self.add_phones(users.len(), Wire::Udp, sockets)?;
        let new = self.phones.split_off(kept);
        self.uris.truncate(kept);
        for (user, phone) in users.zip(new) {
            self.phones[user] = phone;
        }
        Ok(())
    }
}
