//! The requests that follow an INVITE within its transaction: ACK of a non-2xx (RFC 3261
//! §17.1.1.3) and CANCEL (RFC 3261 §9.1).
//!
//! Both are written from few lines of the INVITE, so these are kept and the INVITE is not.

use bytes::Bytes;

use crate::proto::sip::{Decimal, HeaderName, Message, Text};

/// What ACK and CANCEL copy from an INVITE.
#[derive(Debug)]
pub(super) struct FollowUp {
    /// From the Request-URI to the CSeq's number and the space behind it; then the value of To.
    copied: Box<[u8]>,
    /// Where To begins.
    to: usize,
}

impl FollowUp {
    /// Copies from an INVITE that we have written.
    pub(super) fn new(invite: &Bytes) -> Self {
        // What we have written can be read; of anything else nothing would follow.
        match Message::parse(invite.clone()) {
            Ok(invite) => Self::of(&invite),
            Err(_) => Self {
                copied: Box::default(),
                to: 0,
            },
        }
    }

    fn of(invite: &Message) -> Self {
        let mut copied = Vec::with_capacity(512);
        copied.extend_from_slice(invite.request_uri().unwrap_or_default());
        copied.extend_from_slice(b" SIP/2.0\r\n");
        if let Some(via) = invite.values(HeaderName::Via).next() {
            line(&mut copied, "Via", via);
        }
        for route in invite.values(HeaderName::Route) {
            line(&mut copied, "Route", route);
        }
        line(&mut copied, "Max-Forwards", b"70");
        if let Some(from) = invite.header(HeaderName::From) {
            line(&mut copied, "From", from);
        }
        if let Some(call_id) = invite.header(HeaderName::CallId) {
            line(&mut copied, "Call-ID", call_id);
        }
        let number = invite.cseq().map_or(0, |cseq| cseq.number);
        copied.extend_from_slice(b"CSeq: ");
        copied.extend_from_slice(Text::of(Decimal(number)).as_slice());
        copied.push(b' ');
        let to = copied.len();
        copied.extend_from_slice(invite.header(HeaderName::To).unwrap_or_default());
        Self {
            copied: copied.into_boxed_slice(),
            to,
        }
    }

    /// Writes the ACK of this final response.
    pub(super) fn ack(&self, response: &Message) -> Bytes {
        let (_, own_to) = self.parts();
        // RFC 3261 §17.1.1.3: "The To header field in the ACK MUST equal the To header field in
        // the response being acknowledged".
        self.write(
            b"ACK",
            response.header(HeaderName::To).unwrap_or(own_to),
            &[],
        )
    }

    /// Writes the CANCEL, with these Reason values (RFC 3326).
    pub(super) fn cancel(&self, reasons: &[&[u8]]) -> Bytes {
        let (_, to) = self.parts();
        self.write(b"CANCEL", to, reasons)
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.copied
            .split_at_checked(self.to)
            .unwrap_or((&self.copied, &[]))
    }

    fn write(&self, method: &[u8], to: &[u8], reasons: &[&[u8]]) -> Bytes {
        let (head, _) = self.parts();
        let mut request = Vec::with_capacity(self.copied.len() + to.len() + 128);
        request.extend_from_slice(method);
        request.push(b' ');
        request.extend_from_slice(head);
        request.extend_from_slice(method);
        request.extend_from_slice(b"\r\n");
        line(&mut request, "To", to);
        for reason in reasons {
            line(&mut request, "Reason", reason);
        }
        request.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        request.into()
    }
}

fn line(request: &mut Vec<u8>, name: &str, value: &[u8]) {
    request.extend_from_slice(name.as_bytes());
    request.extend_from_slice(b": ");
    request.extend_from_slice(value);
    request.extend_from_slice(b"\r\n");
}
