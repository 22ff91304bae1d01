//! The HTTP request that begins a WebSocket connection (RFC 6455 §4.2, RFC 7118 §4).
//!
//! Any path is taken, and any Origin: a SIP registration carries its own credentials, which a
//! foreign page does not have, and no cookie stands for them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{HOST, SEC_WEBSOCKET_PROTOCOL};

/// The largest request.
const REQUEST: usize = 8 * 1024;
/// What stands at the end of a request without a body.
const END: &[u8] = b"\r\n\r\n";
/// The subprotocol that a client must offer and we confirm (RFC 7118 §4).
const SUBPROTOCOL: &str = "sip";

/// Why a request does not become a WebSocket connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Answered with 400.
    #[error("{0}")]
    Bad(&'static str),
    /// Answered with 426: not a WebSocket request, or not of our version.
    #[error("a websocket request of version 13 is expected here")]
    Other,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// Reads the request and answers it.
pub(super) async fn upgrade<S>(stream: &mut S) -> Result<(), Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answered = match read(stream).await {
        Ok(request) => answer(&request),
        Err(refusal) => Err(refusal),
    };
    let bytes = match &answered {
        Ok(bytes) => bytes.clone(),
        Err(Refusal::Broken(_)) => Vec::new(),
        Err(refusal) => refuse(refusal),
    };
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    if answered.is_err() {
        stream.shutdown().await?;
    }
    answered.map(|_| ())
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    loop {
        let searched = bytes.len().saturating_sub(END.len() - 1);
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let fresh = bytes.get(searched..).unwrap_or_default();
        if fresh.windows(END.len()).any(|window| window == END) {
            return Ok(bytes);
        }
        if bytes.len() > REQUEST {
            return Err(Refusal::Bad("the request is too large"));
        }
    }
}

/// The 101, or why there is none.
fn answer(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let unreadable = Refusal::Bad("the request is no HTTP/1.1 GET");
    let Ok(Some((length, request))) = Request::try_parse(bytes) else {
        return Err(unreadable);
    };
    if length != bytes.len() {
        // RFC 6455 §4.1: a client waits for the answer.
        return Err(Refusal::Bad("something follows the request"));
    }
    let mut response = match create_response(&request) {
        Ok(response) => response,
        Err(Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        )) => return Err(Refusal::Other),
        Err(_) => return Err(Refusal::Bad("the Sec-WebSocket-Key is missing or wrong")),
    };
    if request.headers().get(HOST).is_none() {
        return Err(Refusal::Bad("the Host is missing"));
    }
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    if !offered.into_iter().any(offers_sip) {
        return Err(Refusal::Bad("the Sec-WebSocket-Protocol must offer sip"));
    }
    let confirmed = HeaderValue::from_static(SUBPROTOCOL);
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, confirmed);
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(|_| unreadable)?;
    Ok(bytes)
}

fn offers_sip(value: &HeaderValue) -> bool {
    let names = value.as_bytes().split(|byte| *byte == b',');
    names
        .map(<[u8]>::trim_ascii)
        .any(|name| name == SUBPROTOCOL.as_bytes())
}

fn refuse(refusal: &Refusal) -> Vec<u8> {
    let head = match refusal {
        Refusal::Bad(_) | Refusal::Broken(_) => "400 Bad Request\r\nConnection: close",
        // RFC 9110 §15.5.22 and RFC 6455 §4.4: what would be taken.
        Refusal::Other => {
            "426 Upgrade Required\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13"
        }
    };
    let body = format!("{refusal}\n");
    let length = body.len();
    format!("HTTP/1.1 {head}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of RFC 6455 §1.3, with our subprotocol.
    const GOOD: &str = "GET /chat HTTP/1.1\r\n\
        Host: server.example.com\r\n\
        Upgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\n\
        Sec-WebSocket-Protocol: chat, sip\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";

    fn status(request: &str) -> String {
        let bytes = match answer(request.as_bytes()) {
            Ok(bytes) => bytes,
            Err(refusal) => refuse(&refusal),
        };
        let text = String::from_utf8(bytes).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    fn a_good_request_is_confirmed_without_extensions() {
        let text = String::from_utf8(answer(GOOD.as_bytes()).unwrap()).unwrap();
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        let text = text.to_ascii_lowercase();
        assert!(text.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"));
        assert!(text.contains("sec-websocket-protocol: sip\r\n"));
        assert!(!text.contains("extensions"), "{text}");
    }

    #[test]
    fn other_requests_are_refused() {
        for (wanted, from, to) in [
            ("400", "chat, sip", "chat"),
            ("400", "chat, sip", "sips"),
            ("400", "Sec-WebSocket-Protocol: chat, sip\r\n", ""),
            ("400", "Host: server.example.com\r\n", ""),
            ("400", "dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
            ("400", "GET", "POST"),
            ("400", "HTTP/1.1", "HTTP/1.0"),
            ("400", "\r\n\r\n", "\r\n\r\nmore"),
            ("400", "GET /chat HTTP/1.1", "OPTIONS sip:a@b SIP/2.0"),
            ("426", "Version: 13", "Version: 8"),
            ("426", "Upgrade: websocket\r\n", ""),
            ("426", "Connection: keep-alive, Upgrade\r\n", ""),
        ] {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(status(&GOOD.replace(from, to)), wanted, "{from} -> {to}");
        }
    }

    #[tokio::test]
    async fn a_request_without_end_is_refused() {
        let (mut client, mut server) = tokio::io::duplex(REQUEST * 2);
        let endless = vec![b'x'; REQUEST + 1];
        client.write_all(&endless).await.unwrap();
        let refused = upgrade(&mut server).await;
        assert!(matches!(refused, Err(Refusal::Bad(_))), "{refused:?}");
    }
}
