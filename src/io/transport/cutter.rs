//! What a connection's bytes are cut with: SIP's own framing, or WebSocket's.

use bytes::{Bytes, BytesMut};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::io::transport::ws::{Assembler, Piece};
use crate::proto::Transport;
use crate::proto::sip::{Frame, FrameLimits, Framer, Message, ParseError};

/// Cuts what a peer sends.
#[derive(Debug)]
pub(super) enum Cutter {
    /// RFC 3261 §18.3.
    Stream(Framer),
    /// RFC 7118 §5.
    WebSocket(Assembler),
}

/// What was cut off.
#[derive(Debug)]
pub(super) enum Cut {
    /// A message or a keep-alive of SIP's.
    Frame(Frame),
    /// A WebSocket ping, to be answered with these bytes.
    Ping(Bytes),
    /// A WebSocket pong.
    Pong,
    /// The end of a WebSocket connection, to be answered with this code.
    Close(CloseCode),
}

/// Why nothing more can be cut.
#[derive(Debug)]
pub(super) enum Broken {
    /// These bytes are no SIP.
    Sip(Bytes, ParseError),
    /// The code to end the WebSocket connection with.
    WebSocket(CloseCode),
}

impl Cutter {
    pub(super) fn new(transport: Transport, limits: FrameLimits) -> Self {
        if transport.is_websocket() {
            Self::WebSocket(Assembler::new(BytesMut::new(), limits.message_bytes))
        } else {
            Self::Stream(Framer::new(limits))
        }
    }

    /// The buffer to read into: append only.
    pub(super) const fn buffer(&mut self) -> &mut BytesMut {
        match self {
            Self::Stream(framer) => framer.buffer(),
            Self::WebSocket(assembler) => assembler.buffer(),
        }
    }

    /// Whether something is waiting for its rest.
    pub(super) fn is_partial(&self) -> bool {
        match self {
            Self::Stream(framer) => framer.is_partial(),
            Self::WebSocket(assembler) => assembler.is_partial(),
        }
    }

    /// Whether a message has begun that what was just cut off is no part of.
    pub(super) const fn is_inside(&self) -> bool {
        match self {
            Self::Stream(_) => false,
            Self::WebSocket(assembler) => assembler.is_inside(),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Cut>, Broken> {
        match self {
            Self::Stream(framer) => match framer.next() {
                Ok(frame) => Ok(frame.map(Cut::Frame)),
                Err((bytes, error)) => Err(Broken::Sip(bytes, error)),
            },
            Self::WebSocket(assembler) => {
                let piece = assembler.next().map_err(Broken::WebSocket)?;
                Ok(piece.map(|piece| match piece {
                    Piece::Message(bytes) => Cut::Frame(read(bytes)),
                    Piece::Ping(bytes) => Cut::Ping(bytes),
                    Piece::Pong => Cut::Pong,
                    Piece::Close(code) => Cut::Close(code),
                }))
            }
        }
    }
}

/// Reads a WebSocket message: like a datagram, it is as long as it is (RFC 7118 §5).
fn read(bytes: Bytes) -> Frame {
    match &*bytes {
        b"\r\n\r\n" => Frame::Ping,
        b"\r\n" | b"" => Frame::Pong,
        _ => match Message::parse(bytes.clone()) {
            Ok(message) => Frame::Message(message),
            Err(error) => Frame::Malformed(bytes, error),
        },
    }
}
