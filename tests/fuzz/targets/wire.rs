//! What else comes from outside: the configuration, answers of push services, records of the store,
//! frames of a WebSocket.

use http::StatusCode;
use rouse::config::{Host, Source};
use rouse::proto::push::Pns;

use super::cut;

/// A configuration is read, or each of its mistakes has its place.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // What names a file is not for chance.
    if text.contains("file") || text.contains("path") {
        return;
    }
    let read = rouse::config::read(&Source {
        name: "rouse.toml".into(),
        text: text.into(),
        variables: Vec::new(),
        host: Host::default(),
    });
    match read {
        Ok(config) => assert!(config.workers > 0 && !config.settings.listeners.is_empty()),
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
}

/// Any status with any body has a verdict.
pub(crate) fn push_reply(data: &[u8]) {
    let Some((&[high, low], body)) = data.split_first_chunk() else {
        return;
    };
    let number = 201 + u16::from_be_bytes([high, low]) % 399;
    let status = StatusCode::from_u16(number).expect("a status");
    for pns in [Pns::Apns, Pns::Fcm] {
        let label = rouse::io::pns::refusal(pns, status, body);
        assert_ne!(label, "accepted", "{pns:?} {status}");
    }
}

/// A record is refused, or is the same after it was written again.
pub(crate) fn store_record(data: &[u8]) {
    assert_ne!(rouse::io::store::rereads(data), Some(false));
}

/// The same pieces come out of a WebSocket however its bytes are cut.
pub(crate) fn websocket(data: &[u8]) {
    let (whole, pieces) = cut(data);
    let found = rouse::io::transport::websocket_frames(&pieces, 4096);
    assert_eq!(
        found,
        rouse::io::transport::websocket_frames(&[&whole], 4096)
    );
}
