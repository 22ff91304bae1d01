//! Strangers: whoever repeats what others said, or garbles it.

use bytes::Bytes;

use super::Play;
use crate::schedule::network::{Event, stranger};

impl Play {
    /// Now and then somebody sends what others said, or something like it.
    pub(super) fn let_strangers_speak(&mut self, bytes: &Bytes) {
        // Asterisk would believe a REGISTER where it asks for no password.
        if bytes.starts_with(b"REGISTER") || !self.chance.percent(self.strangers) {
            return;
        }
        let text = String::from_utf8_lossy(bytes).replace("z9hG4bKm", "z9hG4bKx");
        let mut forged = text.into_bytes();
        for _ in 0..self.chance.below(3) {
            let at = self.chance.index(forged.len());
            match self.chance.below(3) {
                0 => forged[at] = u8::try_from(self.chance.below(256)).unwrap(),
                1 => forged.truncate(at.max(1)),
                _ => {
                    forged.remove(at);
                }
            }
            if forged.is_empty() {
                return;
            }
        }
        let after = self.chance.millis(1, 900);
        let flow = stranger();
        let bytes = Bytes::from(forged);
        let event = Event::Up { flow, bytes };
        self.network.at(self.world.now + after, event);
    }
}
