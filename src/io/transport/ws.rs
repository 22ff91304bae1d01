//! WebSocket frames: cutting what a client sends into messages, and writing ours (RFC 6455 §5).
//!
//! One WebSocket message is one SIP message (RFC 7118 §5), text or binary. No extension is ever
//! agreed to, so that a reserved bit is a mistake and nothing can inflate.

use std::io::Cursor;

use bytes::{Buf, Bytes, BytesMut};
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};

/// The most that a control frame may carry (RFC 6455 §5.5).
const CONTROL: u64 = 125;

/// One thing that the client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A whole message, text or binary.
    Message(Bytes),
    /// To be answered with the same bytes.
    Ping(Bytes),
    /// The answer to a ping of ours.
    Pong,
    /// The client ends the connection: answered with this code.
    Close(CloseCode),
}

/// Puts messages together from frames.
#[derive(Debug)]
pub(super) struct Assembler {
    buffer: BytesMut,
    /// The largest message.
    limit: usize,
    open: Option<Open>,
}

/// A message whose last fragment has not come.
#[derive(Debug)]
struct Open {
    is_text: bool,
    bytes: BytesMut,
}

impl Assembler {
    pub(super) const fn new(buffer: BytesMut, limit: usize) -> Self {
        Self {
            buffer,
            limit,
            open: None,
        }
    }

    /// The buffer to read into: append only.
    pub(super) const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether anything is waiting for its rest.
    pub(super) fn is_partial(&self) -> bool {
        !self.buffer.is_empty() || self.is_inside()
    }

    /// Whether a message has begun and not ended: control frames may come in between.
    pub(super) const fn is_inside(&self) -> bool {
        self.open.is_some()
    }

    /// The next whole message or control frame. An error is the code to end the connection with.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, CloseCode> {
        loop {
            let mut cursor = Cursor::new(&*self.buffer);
            let parsed = FrameHeader::parse(&mut cursor).map_err(|_| CloseCode::Protocol)?;
            let head = cursor.position();
            let Some((header, length)) = parsed else {
                return Ok(None);
            };
            let mask = self.check(&header, length)?;
            let (Ok(head), Ok(length)) = (usize::try_from(head), usize::try_from(length)) else {
                return Err(CloseCode::Size);
            };
            if self.buffer.len() - head < length {
                return Ok(None);
            }
            self.buffer.advance(head);
            let mut payload = self.buffer.split_to(length);
            for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= key;
            }
            let piece = match header.opcode {
                OpCode::Control(control) => Some(on_control(control, payload.freeze())?),
                OpCode::Data(data) => self.on_data(data, header.is_final, payload)?,
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
    }

    /// Refuses a frame for what its header says; returns the mask that a client must use (§5.1).
    fn check(&self, header: &FrameHeader, length: u64) -> Result<[u8; 4], CloseCode> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(CloseCode::Protocol);
        }
        let mask = header.mask.ok_or(CloseCode::Protocol)?;
        match header.opcode {
            OpCode::Control(_) if length > CONTROL || !header.is_final => Err(CloseCode::Protocol),
            OpCode::Control(_) => Ok(mask),
            OpCode::Data(_) => {
                let before = self.open.as_ref().map_or(0, |open| open.bytes.len());
                let room = self.limit.saturating_sub(before);
                if usize::try_from(length).is_ok_and(|length| length <= room) {
                    Ok(mask)
                } else {
                    Err(CloseCode::Size)
                }
            }
        }
    }

    fn on_data(
        &mut self,
        data: Data,
        is_final: bool,
        payload: BytesMut,
    ) -> Result<Option<Piece>, CloseCode> {
        let message = match (data, self.open.take()) {
            (Data::Text | Data::Binary, None) => Open {
                is_text: data == Data::Text,
                bytes: payload,
            },
            (Data::Continue, Some(mut open)) => {
                open.bytes.extend_from_slice(&payload);
                open
            }
            (Data::Text | Data::Binary, Some(_)) | (Data::Continue, None) => {
                return Err(CloseCode::Protocol);
            }
            (Data::Reserved(_), _) => return Err(CloseCode::Protocol),
        };
        if !is_final {
            self.open = Some(message);
            return Ok(None);
        }
        if message.is_text && std::str::from_utf8(&message.bytes).is_err() {
            return Err(CloseCode::Invalid);
        }
        Ok(Some(Piece::Message(message.bytes.freeze())))
    }
}

fn on_control(control: Control, payload: Bytes) -> Result<Piece, CloseCode> {
    match control {
        Control::Ping => Ok(Piece::Ping(payload)),
        Control::Pong => Ok(Piece::Pong),
        Control::Close => match *payload {
            [] => Ok(Piece::Close(CloseCode::Normal)),
            [high, low, ref reason @ ..] => {
                let code = CloseCode::from(u16::from_be_bytes([high, low]));
                if code.is_allowed() && std::str::from_utf8(reason).is_ok() {
                    Ok(Piece::Close(code))
                } else {
                    Err(CloseCode::Protocol)
                }
            }
            [_] => Err(CloseCode::Protocol),
        },
        Control::Reserved(_) => Err(CloseCode::Protocol),
    }
}

/// A message of ours: text, as browsers' libraries expect, unless it cannot be.
pub(super) fn message(payload: &[u8]) -> Bytes {
    let data = if std::str::from_utf8(payload).is_ok() {
        Data::Text
    } else {
        Data::Binary
    };
    frame(OpCode::Data(data), payload)
}

pub(super) fn ping() -> Bytes {
    frame(OpCode::Control(Control::Ping), &[])
}

pub(super) fn pong(payload: &[u8]) -> Bytes {
    frame(OpCode::Control(Control::Pong), payload)
}

pub(super) fn close(code: CloseCode) -> Bytes {
    let close = Frame::close(Some(CloseFrame {
        code,
        reason: "".into(),
    }));
    frame(OpCode::Control(Control::Close), close.payload())
}

fn frame(opcode: OpCode, payload: &[u8]) -> Bytes {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
    let mut bytes = Vec::with_capacity(header.len(length) + payload.len());
    if let Err(error) = header.format(length, &mut bytes) {
        // Memory takes all that is written to it.
        tracing::error!(%error, "frame header not written");
    }
    bytes.extend_from_slice(payload);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn assembler(bytes: &[u8]) -> Assembler {
        Assembler::new(BytesMut::from(bytes), 1_000)
    }

    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match u16::try_from(payload.len()).unwrap() {
            length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend(MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        bytes.extend(masked.map(|(byte, key)| byte ^ key));
        bytes
    }

    fn all(bytes: &[u8]) -> Result<Vec<Piece>, CloseCode> {
        let mut assembler = assembler(bytes);
        let mut pieces = Vec::new();
        while let Some(piece) = assembler.next()? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    fn text(text: &'static str) -> Piece {
        Piece::Message(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn the_examples_of_rfc_6455_section_5_7_are_read() {
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(all(&hello), Ok(vec![text("Hello")]));
        let unmasked = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(all(&unmasked), Err(CloseCode::Protocol));
        assert_eq!(*message(b"Hello"), unmasked);
    }

    #[test]
    fn a_message_that_is_cut_anywhere_is_whole_at_its_last_byte() {
        let mut bytes = client(0x01, b"OPTIONS ");
        bytes.extend(client(0x89, b"there?"));
        bytes.extend(client(0x80, b"sip:a"));
        for cut in 0..bytes.len() {
            let mut assembler = assembler(&bytes[..cut]);
            let mut pieces = Vec::new();
            pieces.extend(assembler.next().unwrap());
            pieces.extend(assembler.next().unwrap());
            assert_eq!(assembler.is_partial(), cut != 0, "{cut}");
            assembler.buffer().extend_from_slice(&bytes[cut..]);
            while let Some(piece) = assembler.next().unwrap() {
                pieces.push(piece);
            }
            let ping = Piece::Ping(Bytes::from_static(b"there?"));
            assert_eq!(pieces, [ping, text("OPTIONS sip:a")], "{cut}");
            assert!(!assembler.is_partial());
        }
    }

    #[test]
    fn frames_that_a_client_must_not_send_end_the_connection() {
        for (first, payload) in [
            (0xc1, &b"compressed"[..]),
            (0x83, b"reserved opcode"),
            (0x09, b"fragmented ping"),
            (0x80, b"continuation of nothing"),
            (0x89, &[b'x'; 126]),
            (0x88, b"\x03"),
            (0x88, b"\x03\xed"),
        ] {
            let refused = all(&client(first, payload));
            assert_eq!(refused, Err(CloseCode::Protocol), "{first:x} {payload:?}");
        }
        let mut two = client(0x01, b"one");
        two.extend(client(0x81, b"another"));
        assert_eq!(all(&two), Err(CloseCode::Protocol));
        assert_eq!(all(&client(0x81, b"\xff")), Err(CloseCode::Invalid));
        let binary = Piece::Message(Bytes::from_static(b"\xff"));
        assert_eq!(all(&client(0x82, b"\xff")), Ok(vec![binary]));
    }

    #[test]
    fn a_message_too_large_is_refused_by_its_header_and_in_its_fragments() {
        let whole = client(0x81, &[b'x'; 1_001]);
        assert_eq!(all(&whole[..8]), Err(CloseCode::Size));
        let mut parts = client(0x01, &[b'x'; 600]);
        parts.extend(client(0x80, &[b'x'; 401]));
        assert_eq!(all(&parts), Err(CloseCode::Size));
        let endless = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(all(&[&endless[..], &MASK].concat()), Err(CloseCode::Size));
    }

    #[test]
    fn a_close_is_answered_with_its_code() {
        let away = client(0x88, b"\x03\xe9bye");
        assert_eq!(all(&away), Ok(vec![Piece::Close(CloseCode::Away)]));
        let silent = client(0x88, b"");
        assert_eq!(all(&silent), Ok(vec![Piece::Close(CloseCode::Normal)]));
        assert_eq!(*close(CloseCode::Size), [0x88, 2, 0x03, 0xf1]);
    }
}
