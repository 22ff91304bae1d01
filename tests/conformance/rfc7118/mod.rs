//! RFC 7118: browsers' phones, over WebSocket.

mod section_5;
