//! A gateway under any sequence of what the world can do to it: phones, an Asterisk, pushes, a
//! store, the network and time, each of them as wrong as chance wants it.
//!
//! `FUZZ_TELL=1` tells each step. Whatever happens, all that leaves is valid SIP, no input causes more than so many messages, and
//! when it is over nothing is left but registrations.

use std::time::Duration;

use rouse::proto::push::{PushError, Reason};
use rouse::proto::{Command, Destination, Flow, FlowId, Input};

use super::world::{
    APNS, Sent, World, beside, contact_uri, invite, invite_to, pbx, pbx_tcp, register, response,
    tcp, tls, udp, with_shards,
};

/// The most that one input may cause: forks to all devices of an agent, and their answers.
const MOST: usize = 64;
/// Sequences are cut here: what needs more is not found by chance.
const LONGEST: usize = 96;
const USERS: [&str; 3] = ["1001", "1002", "1003"];
const STATUSES: [&str; 16] = [
    "100 Trying",
    "180 Ringing",
    "183 Session Progress",
    "200 OK",
    "200 OK",
    "302 Moved",
    "401 Unauthorized",
    "404 Not Found",
    "408 Request Timeout",
    "480 Temporarily Unavailable",
    "481 Call/Transaction Does Not Exist",
    "486 Busy Here",
    "487 Request Terminated",
    "500 Server Internal Error",
    "503 Service Unavailable",
    "603 Decline",
];

/// Bytes as decisions.
struct Dice<'d>(&'d [u8]);

impl Dice<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// One of so many.
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.next().unwrap_or(0)) % count.max(1)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// One game.
struct Game<'d> {
    dice: Dice<'d>,
    world: World,
    /// What left, newest last, to be answered.
    seen: Vec<Sent>,
    calls: u32,
}

/// Plays what the bytes say.
pub(crate) fn operations(data: &[u8]) {
    let mut dice = Dice(data);
    let shards = dice.of(&[1, 1, 2, 3]);
    with_shards(shards, || {
        let world = World::new();
        let mut game = Game {
            dice,
            world,
            seen: Vec::new(),
            calls: 0,
        };
        for _ in 0..LONGEST {
            let Some(what) = game.dice.next() else { break };
            game.step(what);
            game.collect(MOST);
        }
        game.end();
    });
}

impl Game<'_> {
    fn step(&mut self, what: u8) {
        if std::env::var_os("FUZZ_TELL").is_some() {
            let after = self.world.now - self.world.start;
            eprintln!("{after:?}: {} then {:?}", what % 20, &self.dice.0.get(..6));
        }
        match what % 20 {
            0..=2 => self.phone_registers(),
            3 | 4 => self.asterisk_calls(),
            5 => self.asterisk_goes_on(),
            6..=9 => self.somebody_answers(),
            10 => self.phone_calls(),
            11 | 12 => self.time_passes(),
            13 | 14 => self.push_ends(),
            15 => self.network_fails(),
            16 => self.store_changes(),
            17 | 18 => self.bytes_change(),
            _ => self.process_changes(),
        }
    }

    fn flow(&mut self) -> Flow {
        match self.dice.next().unwrap_or(0) % 8 {
            0 => udp(40_001),
            1 => udp(40_002),
            2 => tcp(1),
            3 => tcp(2),
            4 => tls(3),
            5 => pbx_tcp(),
            6 => pbx(),
            _ => tls(4),
        }
    }

    fn phone_registers(&mut self) {
        let flow = self.flow();
        let user = self.dice.of(&USERS);
        let params = self.dice.of(&[
            APNS,
            APNS,
            "",
            "pn-provider=fcm;pn-param=project;pn-prid=abc:d",
            "pn-provider=none",
        ]);
        let more = self.dice.of(&[
            "",
            ";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000000000001>\"",
            ";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000000000002>\";reg-id=1",
        ]);
        let expires = self.dice.of(&[3600, 0, 60, 300]);
        let number = self.world.number();
        let text = register(flow, user, params, more, expires, number);
        self.world.receive(flow, text);
    }

    fn asterisk_calls(&mut self) {
        let user = self.dice.of(&USERS);
        self.calls += 1;
        let call = format!("call{}", self.calls);
        self.world.receive(pbx(), invite(user, &call));
    }

    fn call(&mut self) -> String {
        let back = u32::try_from(self.dice.below(3)).expect("three");
        format!("call{}", self.calls.saturating_sub(back))
    }

    fn asterisk_goes_on(&mut self) {
        let user = self.dice.of(&USERS);
        let call = self.call();
        let method = self.dice.of(&["CANCEL", "ACK", "BYE", "INVITE", "MESSAGE"]);
        let text = if method == "INVITE" {
            invite(user, &call)
        } else {
            beside(method, user, &call, "")
        };
        self.world.receive(pbx(), text);
    }

    fn somebody_answers(&mut self) {
        let back = self.dice.below(8);
        let Some(at) = self.seen.len().checked_sub(back + 1) else {
            return;
        };
        let sent = self.seen[at].clone();
        if !sent.message.is_request() {
            return;
        }
        let status = self.dice.of(&STATUSES);
        let contact = sent.header(rouse::proto::sip::HeaderName::Contact);
        let more = match self.dice.next().unwrap_or(0) % 4 {
            0 | 1 => format!("Contact: {contact};expires=3600\nExpires: 3600\n"),
            2 => "Contact: <sip:x@192.0.2.200>\nRetry-After: 3\n".to_owned(),
            _ => String::new(),
        };
        let from = match sent.to {
            Destination::Flow(id) => [udp(40_001), udp(40_002), tcp(1), tcp(2), tls(3), tls(4)]
                .into_iter()
                .chain([pbx(), pbx_tcp()])
                .find(|flow| flow.id == id),
            Destination::Hop(_) => Some(pbx_tcp()),
        };
        let from = from.unwrap_or_else(pbx);
        self.world.receive(from, response(&sent, status, &more));
    }

    fn phone_calls(&mut self) {
        let flow = self.flow();
        self.calls += 1;
        let uri = match self.dice.next().unwrap_or(0) % 3 {
            0 => "sip:2002@pbx.example.com".to_owned(),
            1 => contact_uri(USERS[0]),
            _ => "sip:elsewhere.example".to_owned(),
        };
        let call = format!("call{}", self.calls);
        self.world.receive(flow, invite_to(&uri, &call));
    }

    fn time_passes(&mut self) {
        let millis = self.dice.of(&[
            1, 100, 500, 1_000, 4_000, 26_000, 32_000, 65_000, 190_000, 1_000_000,
        ]);
        self.world.advance(Duration::from_millis(millis));
    }

    fn push_ends(&mut self) {
        if self.world.pushes.is_empty() {
            return;
        }
        let reason = Reason::new("reason");
        match self.dice.next().unwrap_or(0) % 4 {
            0 => self.world.refuse_push(PushError::Unregistered {
                since_ms: None,
                reason,
            }),
            1 => self.world.refuse_push(PushError::Throttled {
                retry_after: Duration::from_secs(2),
                reason,
            }),
            _ => drop(self.world.accept_push()),
        }
    }

    fn network_fails(&mut self) {
        let flow = self.flow();
        match self.dice.next().unwrap_or(0) % 3 {
            0 if matches!(flow.id, FlowId::Stream(_)) => self.world.close(flow),
            1 => self.world.input(Input::Heard { flow: flow.id }),
            _ => {
                let failed = self.seen.iter().rev().find(|sent| sent.report.is_some());
                if let Some(sent) = failed.cloned() {
                    self.world.fail(&sent);
                }
            }
        }
    }

    fn store_changes(&mut self) {
        match self.dice.next().unwrap_or(0) % 4 {
            0 => self.world.is_store_working = !self.world.is_store_working,
            1 => self.world.is_store_slow = true,
            _ => {
                self.world.is_store_slow = false;
                self.world.store();
            }
        }
    }

    /// What has left comes back, or what could have come does, with some bytes changed.
    fn bytes_change(&mut self) {
        let flow = self.flow();
        let back = self.dice.below(8);
        let at = self.seen.len().checked_sub(back + 1);
        let mut bytes = match at {
            Some(at) => self.seen[at].message.raw().to_vec(),
            None => invite(USERS[0], "call1").into_bytes(),
        };
        for _ in 0..self.dice.below(5) {
            let high = self.dice.below(256) << 8;
            let at = (high | self.dice.below(256)) % bytes.len().max(1);
            let byte = self.dice.next().unwrap_or(b' ');
            match self.dice.next().unwrap_or(0) % 3 {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        self.world.receive(flow, bytes);
    }

    fn process_changes(&mut self) {
        match self.dice.next().unwrap_or(0) % 4 {
            0 => self.world.input(Input::Command(Command::Drain)),
            1 => {
                // What it leaves is another process's.
                self.world.input(Input::Command(Command::HandOver));
                self.restart();
            }
            2 => {
                let stored = self.world.stored.first().map(|binding| binding.key);
                if let Some(key) = stored {
                    self.world.input(Input::Command(Command::Forget(key)));
                }
            }
            _ => self.restart(),
        }
    }

    fn restart(&mut self) {
        self.world.is_store_slow = false;
        self.world.store();
        self.world.resumes_calls = true;
        self.world.restart();
    }

    /// Takes what has left: that it is valid SIP is seen to by the world.
    fn collect(&mut self, most: usize) {
        let sent = std::mem::take(&mut self.world.sent);
        if std::env::var_os("FUZZ_TELL").is_some() {
            for sent in &sent {
                eprintln!("    sends {} to {:?}", sent.first_line(), sent.to);
            }
            eprintln!("    {:?}", self.world.in_flight());
        }
        let is_time = self.world.now > self.world.start;
        assert!(is_time || sent.len() <= most, "{} messages", sent.len());
        self.seen.extend(sent);
        let old = self.seen.len().saturating_sub(16);
        self.seen.drain(..old);
        self.world.events.clear();
    }

    /// The store works, pushes are answered, nobody says anything more: nothing may be left.
    fn end(&mut self) {
        self.world.is_store_slow = false;
        self.world.is_store_working = true;
        self.world.store();
        for _ in 0..12 {
            while !self.world.pushes.is_empty() {
                self.world.accept_push();
            }
            self.world.advance(Duration::from_secs(60));
            self.world.sent.clear();
            self.world.store();
        }
        while !self.world.pushes.is_empty() {
            self.world.accept_push();
        }
        self.world.assert_quiet();
    }
}
