//! A timeline as a ladder: one column per party, one row per event, times on the left.
//!
//! Pure text: how wide and whether in colour is said by the caller.

use crate::standin::timeline::TimelineEvent;

/// The columns that the times take.
const GUTTER: usize = 10;
/// The least distance of two lifelines: room for an arrow head and a short word.
const LEAST_PITCH: usize = 14;
/// Wider arrows are no easier to read.
const MOST_PITCH: usize = 34;

/// The width of a ladder where nobody says how wide the terminal is.
const WIDTH: usize = 100;

/// How a ladder is drawn.
#[derive(Clone, Debug)]
pub(super) struct Ladder<'l> {
    /// The parties, left to right.
    pub(super) parties: &'l [&'l str],
    /// How many characters a line may have.
    pub(super) width: usize,
    /// Whether escape sequences for colours are understood.
    pub(super) colour: bool,
}

/// How a piece of a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Bold,
    Dim,
    Good,
    Loud,
    Plain,
}

/// A line being drawn: characters and their looks, by place.
struct Canvas {
    cells: Vec<(char, Tone)>,
}

impl Ladder<'_> {
    /// Draws the events; those of unknown parties are left out.
    pub(super) fn draw(&self, events: &[TimelineEvent]) -> Vec<String> {
        let mut lines = vec![self.header(), self.lifelines().finish(self.colour)];
        lines.extend(events.iter().filter_map(|event| self.row(event)));
        lines.push(self.lifelines().finish(self.colour));
        lines
    }

    fn header(&self) -> String {
        let mut canvas = Canvas::new();
        for (index, party) in self.parties.iter().enumerate() {
            // Each name is centred on its lifeline, the first one not into the times.
            let half = party.chars().count() / 2;
            let start = self.place(index).saturating_sub(half);
            canvas.write(start, party, Tone::Bold);
        }
        canvas.finish(self.colour)
    }

    fn row(&self, event: &TimelineEvent) -> Option<String> {
        let from = self.column(&event.from)?;
        let to = self.column(&event.to)?;
        let mut canvas = self.lifelines();
        let time = format!("{:>6} ms", event.at_ms);
        canvas.write(0, &time, Tone::Dim);
        if from == to {
            self.draw_note(&mut canvas, from, &event.what);
        } else {
            self.draw_arrow(&mut canvas, from, to, &event.what);
        }
        Some(canvas.finish(self.colour))
    }

    /// A party's own affair: a dot on its lifeline and the words beside it, where there is room.
    fn draw_note(&self, canvas: &mut Canvas, column: usize, what: &str) {
        let place = self.place(column);
        canvas.write(place, "●", Tone::Loud);
        if column + 1 == self.parties.len() && column > 0 {
            let text = shorten(what, self.pitch() - 3);
            let start = place - 1 - text.chars().count();
            canvas.write(start, &text, Tone::Loud);
        } else {
            let text = shorten(what, self.pitch() - 3);
            canvas.write(place + 2, &text, Tone::Loud);
        }
    }

    fn draw_arrow(&self, canvas: &mut Canvas, from: usize, to: usize, what: &str) {
        let tone = tone(what);
        let (left, right) = (self.place(from.min(to)), self.place(from.max(to)));
        for place in left + 1..right {
            canvas.write(place, "─", tone);
        }
        if to > from {
            canvas.write(right - 1, "▶", tone);
        } else {
            canvas.write(left + 1, "◀", tone);
        }
        let text = format!(" {} ", shorten(what, right - left - 7));
        let start = left + 1 + (right - left - 1 - text.chars().count()) / 2;
        canvas.write(start, &text, tone);
    }

    fn lifelines(&self) -> Canvas {
        let mut canvas = Canvas::new();
        for index in 0..self.parties.len() {
            canvas.write(self.place(index), "│", Tone::Dim);
        }
        canvas
    }

    fn column(&self, party: &str) -> Option<usize> {
        self.parties.iter().position(|known| *known == party)
    }

    fn place(&self, column: usize) -> usize {
        GUTTER + 4 + column * self.pitch()
    }

    fn pitch(&self) -> usize {
        let gaps = self.parties.len().saturating_sub(1).max(1);
        let room = self.width.saturating_sub(GUTTER + 9) / gaps;
        room.clamp(LEAST_PITCH, MOST_PITCH)
    }
}

impl Canvas {
    const fn new() -> Self {
        Self { cells: Vec::new() }
    }

    fn write(&mut self, start: usize, text: &str, tone: Tone) {
        for (offset, c) in text.chars().enumerate() {
            let place = start + offset;
            if self.cells.len() <= place {
                self.cells.resize(place + 1, (' ', Tone::Plain));
            }
            if let Some(cell) = self.cells.get_mut(place) {
                *cell = (c, tone);
            }
        }
    }

    fn finish(self, colour: bool) -> String {
        let mut line = String::new();
        let mut current = Tone::Plain;
        for (c, tone) in self.cells {
            if colour && tone != current {
                line.push_str(escape(tone));
                current = tone;
            }
            line.push(c);
        }
        if current != Tone::Plain {
            line.push_str(escape(Tone::Plain));
        }
        line
    }
}

const fn escape(tone: Tone) -> &'static str {
    match tone {
        Tone::Bold => "\x1b[0;1m",
        Tone::Dim => "\x1b[0;2m",
        Tone::Good => "\x1b[0;32m",
        Tone::Loud => "\x1b[0;1;33m",
        Tone::Plain => "\x1b[0m",
    }
}

/// How wide the terminal is.
pub(super) fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok();
    let said = columns.and_then(|columns| columns.parse().ok());
    let asked = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    said.or_else(asked).unwrap_or(WIDTH)
}

fn tone(what: &str) -> Tone {
    if what.starts_with("push") {
        Tone::Loud
    } else if what.starts_with("200") {
        Tone::Good
    } else {
        Tone::Plain
    }
}

/// Makes a text fit into `room` characters: what stands in brackets at its end goes first, then
/// it is cut, with an ellipsis.
fn shorten(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let text = text.split(" (").next().unwrap_or(text);
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept = text.chars().take(room.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTIES: [&str; 4] = ["Asterisk", "Rouse", "APNs", "phone"];

    fn event(at_ms: u64, from: &str, to: &str, what: &str) -> TimelineEvent {
        TimelineEvent {
            at_ms,
            from: from.to_owned(),
            to: to.to_owned(),
            what: what.to_owned(),
        }
    }

    fn draw(width: usize, colour: bool, events: &[TimelineEvent]) -> Vec<String> {
        let ladder = Ladder {
            parties: &PARTIES,
            width,
            colour,
        };
        ladder.draw(events)
    }

    #[test]
    fn arrows_run_between_the_lifelines_of_their_parties() {
        let lines = draw(
            80,
            false,
            &[
                event(0, "Asterisk", "Rouse", "INVITE"),
                event(12, "phone", "Rouse", "200 OK (INVITE)"),
                event(300, "phone", "phone", "sleeps"),
                event(301, "nobody", "phone", "unseen"),
                event(4000, "Asterisk", "Rouse", "401 Unauthorized (REGISTER)"),
            ],
        );
        let expected = [
            "          Asterisk             Rouse                APNs               phone",
            "              │                   │                   │                   │",
            "     0 ms     │───── INVITE ─────▶│                   │                   │",
            "    12 ms     │                   │◀────────── 200 OK (INVITE) ───────────│",
            "   300 ms     │                   │                   │            sleeps ●",
            "  4000 ms     │── 401 Unauthor… ─▶│                   │                   │",
            "              │                   │                   │                   │",
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected).skip(1) {
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn a_ladder_fits_its_width_and_long_labels_are_cut() {
        for width in [80, 100, 132] {
            let long = "a label that is much longer than any terminal has room for, ".repeat(4);
            let lines = draw(
                width,
                false,
                &[
                    event(9, "Asterisk", "Rouse", &long),
                    event(9, "phone", "phone", &long),
                    event(9, "Asterisk", "Asterisk", &long),
                ],
            );
            for line in &lines {
                assert!(line.chars().count() <= width, "{line}");
            }
            assert!(lines[2].contains("… "), "{}", lines[2]);
        }
    }

    #[test]
    fn escape_sequences_appear_only_in_colour() {
        let events = [event(1, "Rouse", "APNs", "push: call")];
        assert!(draw(80, false, &events).concat().find('\x1b').is_none());
        let coloured = draw(80, true, &events);
        assert!(coloured[2].contains("\x1b[0;1;33m"), "{:?}", coloured[2]);
        assert!(coloured.iter().all(|line| line.ends_with("\x1b[0m")));
    }
}
