//! What a seed decides before anything happens: who there is, the weather, and what happens when.

use std::time::Duration;

use rouse::proto::AorId;
use rouse::proto::settings::{ContactMode, Node, Settings};

use super::asterisk::{Asterisk, PBX};
use super::cast::Errand;
use super::chance::Chance;
use super::network::Weather;
use super::phone::{Phone, Wakes};
use crate::world::settings;

/// Numbers of shards that are played.
const SHARDS: [u16; 6] = [1, 1, 1, 2, 4, 7];

#[derive(Debug)]
pub struct Plan {
    pub shards: u16,
    pub settings: Settings,
    pub nodes: usize,
    pub weather: Weather,
    /// Of a hundred pushes, how many fare other than well.
    pub bad_pushes: u64,
    /// Of a hundred messages, how many a stranger repeats, or garbles.
    pub strangers: u64,
    pub asterisk: Asterisk,
    pub phones: Vec<Phone>,
    pub errands: Vec<(Duration, Errand)>,
}

impl Plan {
    pub fn of(chance: &mut Chance) -> Self {
        let shards = chance.pick(&SHARDS);
        let mode = chance.pick(&[ContactMode::Agent, ContactMode::Device, ContactMode::Path]);
        let nodes = if chance.percent(25) { 2 } else { 1 };
        let mut settings = settings(mode);
        for index in 1..nodes {
            let first = settings.upstreams[0].nodes[0].clone();
            settings.upstreams[0].nodes.push(Node {
                index: u16::try_from(index).unwrap(),
                host: format!("192.0.2.{}", 80 + index).into(),
                ..first
            });
        }
        settings.wake.message_hold = Duration::from_secs(40);
        let is_stormy = chance.percent(45);
        let weather = if is_stormy {
            Weather {
                lost: chance.below(25),
                doubled: chance.below(10),
                delay: (2, 20 + chance.below(800)),
            }
        } else {
            Weather {
                lost: 0,
                doubled: 0,
                delay: (1, 30),
            }
        };
        // Some live so short that bindings end, and refreshes are pushed.
        let longest = chance.pick(&[3600, 3600, 3600, 3600, 60, 330]);
        let agents = agents(chance.percent(50));
        let phones = cast(chance, &agents, longest);
        let (pjsip, passwords) = (chance.percent(50), chance.percent(30));
        let asterisk = Asterisk::new(mode, pjsip, passwords, longest);
        let mut errands = openings(chance, &phones);
        let span = match longest {
            3600 => 12_000 + chance.below(60_000),
            short => u64::from(short) * 1100,
        };
        let count = 2 + chance.below(5);
        for _ in 0..count {
            let at = chance.millis(1_500, span);
            let what = errand(chance, &agents, phones.len(), nodes);
            errands.push((at, what));
        }
        // A call at least, for what else would this be.
        let agent = chance.pick(&agents);
        errands.push((chance.millis(1_500, span), Errand::Call { agent }));
        errands.push((Duration::from_millis(span + 15_000), Errand::Peace));
        Self {
            shards,
            settings,
            nodes,
            weather,
            bad_pushes: if is_stormy { 35 } else { 12 },
            strangers: if is_stormy { 3 } else { 0 },
            asterisk,
            phones,
            errands,
        }
    }
}

/// One agent, or two of different shards, by their last digits.
fn agents(are_two: bool) -> Vec<usize> {
    let shard =
        |digit: usize| AorId::of(format!("100{digit}").as_bytes(), b"pbx.example.com").shard(2);
    let other = (1..9).find(|digit| shard(*digit) != shard(0));
    let other = other.filter(|_| are_two);
    std::iter::once(0).chain(other).collect()
}

fn cast(chance: &mut Chance, agents: &[usize], longest: u32) -> Vec<Phone> {
    let count = agents.len() + chance.index(3);
    let mut phones = Vec::new();
    for id in 0..count {
        let wakes = chance.pick(&[Wakes::Apns, Wakes::Apns, Wakes::Fcm, Wakes::Never]);
        let is_stream = chance.percent(50);
        let mut phone = Phone::new(id, agents[id % agents.len()], wakes, is_stream);
        phone.q = if chance.percent(20) { ";q=0.5" } else { "" };
        phone.expires = chance.pick(&[longest, longest, 3600]);
        phones.push(phone);
    }
    phones
}

/// All register, and most fall asleep.
fn openings(chance: &mut Chance, phones: &[Phone]) -> Vec<(Duration, Errand)> {
    let mut errands = Vec::new();
    for phone in 0..phones.len() {
        errands.push((chance.millis(0, 400), Errand::Wake { phone }));
        if chance.percent(60) {
            errands.push((chance.millis(900, 9_000), Errand::Sleep { phone }));
        }
    }
    errands
}

fn errand(chance: &mut Chance, agents: &[usize], phones: usize, nodes: usize) -> Errand {
    let (agent, phone) = (chance.pick(agents), chance.index(phones));
    match chance.below(40) {
        0..12 => Errand::Call { agent },
        12..15 => Errand::Sleep { phone },
        15..18 => Errand::Wake { phone },
        18..21 => Errand::Move { phone },
        21..23 => Errand::Die { phone },
        23..25 => Errand::CallOut { phone },
        25 => Errand::Reinstall { phone },
        26 | 27 => Errand::ChangeHands { phone, agent },
        38 => Errand::Register { phone, expires: 0 },
        28 => Errand::Register {
            phone,
            expires: 600,
        },
        29..32 => {
            let method = chance.pick(&["OPTIONS", "NOTIFY", "MESSAGE"]);
            Errand::Ask { agent, method }
        }
        32..34 => Errand::Cut {
            party: phone,
            lasts: chance.millis(500, 40_000),
        },
        34 => Errand::Cut {
            party: PBX + chance.index(nodes),
            lasts: chance.millis(500, 40_000),
        },
        35..37 => Errand::Restart,
        37 => Errand::StoreBreaks {
            lasts: chance.millis(500, 9_000),
        },
        _ => Errand::Call { agent },
    }
}
