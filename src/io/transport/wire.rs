//! The raw messages as they pass: in the log only at TRACE, only on the target `sip::wire`, and
//! without what would let its reader push or register in a device's place; and to whoever watches
//! beside the log ([`Tap`]), which costs one load while nobody does.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::proto::{ListenerId, Transport};

/// What stands where something was taken out.
const REDACTED: &[u8] = b"[redacted]";
/// Headers that carry credentials.
const CREDENTIALS: [&[u8]; 2] = [b"authorization", b"proxy-authorization"];
/// URI parameters that carry a device's push token or keys, with their `=`.
const TOKENS: [&[u8]; 3] = [b"pn-prid=", b"pn-tok=", b"pn-keys="];

/// A message as it passes a socket of ours.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Whether it came to us.
    pub is_in: bool,
    /// At which listener; `None`: a connection that we opened, or are to open.
    pub listener: Option<ListenerId>,
    /// The other side.
    pub remote: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// The message.
    pub bytes: &'a [u8],
}

/// Looks at messages beside the log.
pub trait Watch: Send + Sync {
    /// Looks at one; must not block.
    fn see(&self, sight: &Sight<'_>);
}

/// Shows messages to whoever watches, while somebody does.
#[derive(Default)]
pub struct Tap {
    is_on: AtomicBool,
    watch: OnceLock<Arc<dyn Watch>>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap")
            .field("is_on", &self.is_on)
            .finish_non_exhaustive()
    }
}

impl Tap {
    /// Says who watches, once.
    pub fn watch(&self, watch: Arc<dyn Watch>) {
        // dropped: somebody watches already.
        drop(self.watch.set(watch));
    }

    /// Says whether there is anything to watch for.
    pub fn turn(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Shows a message.
    pub(super) fn see(&self, sight: Sight<'_>) {
        trace(
            if sight.is_in { "in" } else { "out" },
            sight.remote,
            sight.bytes,
        );
        if self.is_on.load(Ordering::Relaxed)
            && let Some(watch) = self.watch.get()
        {
            watch.see(&sight);
        }
    }
}

/// Logs a message.
fn trace(direction: &'static str, remote: SocketAddr, bytes: &[u8]) {
    tracing::trace!(
        target: "sip::wire",
        direction,
        %remote,
        "{}",
        String::from_utf8_lossy(&redacted(bytes))
    );
}

/// The message without credentials and push tokens.
#[must_use]
pub fn redacted(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut is_secret = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let is_fold = matches!(line.first(), Some(b' ' | b'\t'));
        if is_fold && is_secret {
            continue;
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let name = name.trim_ascii();
        is_secret = CREDENTIALS
            .iter()
            .any(|secret| secret.eq_ignore_ascii_case(name));
        if is_secret {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(REDACTED);
            out.extend_from_slice(b"\r\n");
        } else {
            without_tokens(line, &mut out);
        }
    }
    out
}

fn without_tokens(mut line: &[u8], out: &mut Vec<u8>) {
    while let Some((start, length)) = next_token(line) {
        let (before, rest) = line.split_at(start);
        out.extend_from_slice(before);
        out.extend_from_slice(REDACTED);
        line = rest.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(line);
}

/// The place and length of the first push token in a line.
fn next_token(line: &[u8]) -> Option<(usize, usize)> {
    let starts = TOKENS.iter().filter_map(|name| {
        let found = line
            .windows(name.len())
            .position(|part| part.eq_ignore_ascii_case(name));
        found.map(|at| at + name.len())
    });
    let start = starts.min()?;
    let value = line.get(start..)?;
    let ends = |byte: &u8| {
        matches!(
            byte,
            b';' | b'>' | b'?' | b',' | b'"' | b' ' | b'\r' | b'\n'
        )
    };
    let length = value.iter().position(ends).unwrap_or(value.len());
    Some((start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_tokens_are_taken_out_and_nothing_else() {
        let message = b"REGISTER sip:a SIP/2.0\r\n\
            Contact: <sip:1@h;pn-provider=apns;PN-PRID=00aa:voip&11bb:remote;x=1>;y\r\n\
            Contact: <sip:1@h;pn-tok=00aa>\r\n\
            Authorization : Digest username=\"1\",\r\n response=\"f00\"\r\n\
            proxy-authorization: Digest response=\"f00\"\r\n\
            To: <sip:1@h>\r\n\r\nbody\r\n";
        let expected = b"REGISTER sip:a SIP/2.0\r\n\
            Contact: <sip:1@h;pn-provider=apns;PN-PRID=[redacted];x=1>;y\r\n\
            Contact: <sip:1@h;pn-tok=[redacted]>\r\n\
            Authorization: [redacted]\r\n\
            proxy-authorization: [redacted]\r\n\
            To: <sip:1@h>\r\n\r\nbody\r\n";
        assert_eq!(
            String::from_utf8_lossy(&redacted(message)),
            String::from_utf8_lossy(expected)
        );
    }

    #[test]
    fn what_ends_in_the_middle_is_no_trouble() {
        for bytes in [
            &b""[..],
            b"pn-prid=",
            b"pn-prid=00",
            b"Authorization",
            b"\n pn-tok=\n",
        ] {
            let text = redacted(bytes);
            assert!(!text.windows(2).any(|part| part == b"00"));
        }
    }
}
