//! What happened, as a ladder: one column for each party, one row for each event.

use std::time::Duration;

use super::asterisk::PBX;

/// Characters between two lifelines.
const PITCH: usize = 24;
const GUTTER: usize = 12;

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    pub at: Duration,
    /// The party beside the gateway; `None`: the gateway itself.
    pub party: Option<usize>,
    pub way: Way,
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It arrives at the gateway.
    Up,
    /// The gateway sends it.
    Down,
    /// The gateway sends it, and the network loses it.
    Lost,
    /// A party's own affair.
    Own,
}

/// The push services, as a party.
pub const PUSH: usize = 98;

/// Draws the rows: Asterisk on the left, then the gateway, the push services and the phones.
pub fn draw(rows: &[Row], nodes: usize, phones: usize) -> String {
    let mut parties: Vec<_> = (0..nodes).map(|node| PBX + node).collect();
    let gateway = parties.len();
    parties.extend([usize::MAX, PUSH]);
    parties.extend(0..phones);
    let place = |party: usize| {
        let at = parties.iter().position(|known| *known == party);
        GUTTER + 6 + at.unwrap_or(gateway) * PITCH
    };
    let mut head = Line::default();
    for party in &parties {
        let name = match *party {
            usize::MAX => "Rouse".to_owned(),
            PUSH => "push".to_owned(),
            node if node >= PBX => format!("Asterisk {}", node - PBX),
            phone => format!("phone {phone}"),
        };
        head.write(place(*party).saturating_sub(name.len() / 2), &name);
    }
    let mut text = head.finish();
    for row in rows {
        let mut line = Line::default();
        line.write(0, &format!("{:>10.3}", row.at.as_secs_f64()));
        for party in &parties {
            line.write(place(*party), "│");
        }
        let centre = place(usize::MAX);
        let side = row.party.map_or(centre, place);
        let (left, right) = (centre.min(side), centre.max(side));
        if row.way == Way::Own || left == right {
            line.write(side, "●");
            line.write(side + 2, &row.what);
        } else {
            let room = right - left - 5;
            let what: String = row.what.chars().take(room.max(PITCH - 6)).collect();
            line.write(left + 1, &"─".repeat(right - left - 1));
            let is_rightward = (side > centre) == (row.way != Way::Up);
            let head = if row.way == Way::Lost {
                "╳"
            } else if is_rightward {
                "▶"
            } else {
                "◀"
            };
            line.write(if is_rightward { right - 1 } else { left + 1 }, head);
            line.write(left + 3, &format!(" {what} "));
        }
        text.push_str(&line.finish());
    }
    text
}

#[derive(Default)]
struct Line(Vec<char>);

impl Line {
    fn write(&mut self, at: usize, text: &str) {
        for (place, letter) in text.chars().enumerate() {
            if self.0.len() <= at + place {
                self.0.resize(at + place + 1, ' ');
            }
            self.0[at + place] = letter;
        }
    }

    fn finish(self) -> String {
        let mut line: String = self.0.into_iter().collect();
        line.push('\n');
        line
    }
}
