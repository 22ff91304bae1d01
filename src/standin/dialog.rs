//! A dialog's state and the requests it sends (RFC 3261 §12).

use crate::proto::sip::{HeaderName, Message, NameAddr};
use crate::standin::draft::{Draft, header_text, text, value_texts};

/// What two ends of a call know of it (RFC 3261 §12.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dialog {
    /// Call-ID.
    pub(crate) call_id: String,
    /// Our From value, with our tag.
    pub(crate) local: String,
    /// Their To value, with their tag.
    pub(crate) remote: String,
    /// The remote target: where their Contact pointed last.
    pub(crate) target: String,
    /// The route set, first hop first.
    pub(crate) routes: Vec<String>,
    /// The number of our last request.
    pub(crate) cseq: u32,
}

/// A Via value for the next request.
pub(crate) type Via<'v> = &'v str;

impl Dialog {
    /// The dialog of the side that got the INVITE (RFC 3261 §12.1.1).
    pub(crate) fn called(invite: &Message, local_tag: &str) -> Self {
        Self {
            call_id: header_text(invite, HeaderName::CallId),
            local: format!("{};tag={local_tag}", header_text(invite, HeaderName::To)),
            remote: header_text(invite, HeaderName::From),
            target: contact_uri(invite).unwrap_or_default(),
            routes: value_texts(invite, HeaderName::RecordRoute),
            cseq: 0,
        }
    }

    /// The dialog of the side that sent the INVITE (RFC 3261 §12.1.2): the route set is reversed.
    pub(crate) fn calling(invite: &Message, response: &Message) -> Self {
        let mut routes = value_texts(response, HeaderName::RecordRoute);
        routes.reverse();
        Self {
            call_id: header_text(invite, HeaderName::CallId),
            local: header_text(invite, HeaderName::From),
            remote: header_text(response, HeaderName::To),
            target: contact_uri(response).unwrap_or_default(),
            routes,
            cseq: invite.cseq().map_or(0, |cseq| cseq.number),
        }
    }

    /// Takes the Contact of a target refresh request or of its 2xx (RFC 3261 §12.2).
    pub(crate) fn refresh_target(&mut self, message: &Message) {
        if let Some(target) = contact_uri(message) {
            self.target = target;
        }
    }

    /// Begins a request with the next number (RFC 3261 §12.2.1.1).
    pub(crate) fn request(&mut self, method: &str, via: Via<'_>) -> Draft {
        self.cseq += 1;
        self.numbered(method, via, self.cseq)
    }

    /// Begins the ACK to a 2xx: a request with the INVITE's number (RFC 3261 §13.2.2.4).
    pub(crate) fn ack(&self, via: Via<'_>, cseq: u32) -> Draft {
        self.numbered("ACK", via, cseq)
    }

    /// Returns the URI of the next hop.
    pub(crate) fn next_hop(&self) -> String {
        let first = self.routes.first().and_then(|route| address_uri(route));
        first.unwrap_or_else(|| self.target.clone())
    }

    fn numbered(&self, method: &str, via: Via<'_>, cseq: u32) -> Draft {
        let (uri, routes) = self.request_uri_and_routes();
        Draft::request(method, &uri, via)
            .lines("Route", routes)
            .line("From", &self.local)
            .line("To", &self.remote)
            .line("Call-ID", &self.call_id)
            .line("CSeq", format!("{cseq} {method}"))
    }

    fn request_uri_and_routes(&self) -> (String, Vec<String>) {
        let Some(first) = self.routes.first() else {
            return (self.target.clone(), Vec::new());
        };
        if is_loose(first) {
            return (self.target.clone(), self.routes.clone());
        }
        // RFC 3261 §12.2.1.1: a strict router gets its own URI as Request-URI, and the target
        // goes to the end of the routes.
        let mut routes: Vec<String> = self.routes.iter().skip(1).cloned().collect();
        routes.push(format!("<{}>", self.target));
        let uri = address_uri(first).unwrap_or_else(|| self.target.clone());
        (uri, routes)
    }
}

/// Returns the URI inside a name-addr.
pub(crate) fn address_uri(value: &str) -> Option<String> {
    let address = NameAddr::parse(value.as_bytes()).ok()?;
    Some(text(address.uri))
}

/// Returns the URI of a message's first Contact.
pub(crate) fn contact_uri(message: &Message) -> Option<String> {
    let value = message.values(HeaderName::Contact).next()?;
    address_uri(&text(value))
}

fn is_loose(route: &str) -> bool {
    let Ok(address) = NameAddr::parse(route.as_bytes()) else {
        return false;
    };
    address
        .parse_uri()
        .is_ok_and(|uri| uri.params.get("lr").is_some())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(lines: &[&str]) -> Message {
        let text = format!("{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"));
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn invite() -> Message {
        message(&[
            "INVITE sip:1001@10.0.0.9 SIP/2.0",
            "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1",
            "Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>",
            "From: \"A, B\" <sip:2000@pbx.example.com>;tag=as1",
            "To: <sip:1001@pbx.example.com>",
            "Call-ID: c1",
            "CSeq: 102 INVITE",
            "Contact: <sip:2000@10.0.0.5:5080;transport=tcp>",
        ])
    }

    fn ok(routes: &str) -> Message {
        message(&[
            "SIP/2.0 200 OK",
            "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1",
            routes,
            "From: \"A, B\" <sip:2000@pbx.example.com>;tag=as1",
            "To: <sip:1001@pbx.example.com>;tag=ph1",
            "Call-ID: c1",
            "CSeq: 102 INVITE",
            "Contact: \"Phone\" <sip:1001@10.0.0.9:40000>;expires=60",
        ])
    }

    #[test]
    fn the_called_side_keeps_the_record_route_in_order() {
        let mut dialog = Dialog::called(&invite(), "ph1");
        let bytes = dialog.request("BYE", "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK2");
        let bye = Message::parse(bytes.finish()).unwrap();
        assert_eq!(
            bye.request_uri().unwrap(),
            b"sip:2000@10.0.0.5:5080;transport=tcp"
        );
        assert_eq!(
            value_texts(&bye, HeaderName::Route),
            ["<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>"]
        );
        assert_eq!(bye.from().unwrap().tag().unwrap(), b"ph1");
        assert_eq!(bye.to().unwrap().tag().unwrap(), b"as1");
        assert_eq!(dialog.next_hop(), "sip:p2.example.com;lr");
    }

    #[test]
    fn the_calling_side_reverses_the_record_route_and_counts_on() {
        let response = ok("Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>");
        let mut dialog = Dialog::calling(&invite(), &response);
        assert_eq!(
            dialog.routes,
            ["<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>"]
        );
        assert_eq!(dialog.target, "sip:1001@10.0.0.9:40000");
        let ack = Message::parse(dialog.ack("SIP/2.0/UDP x;branch=z9hG4bK3", 102).finish());
        assert_eq!(ack.unwrap().cseq().unwrap().number, 102);
        let bye = dialog.request("BYE", "SIP/2.0/UDP x;branch=z9hG4bK4");
        let bye = Message::parse(bye.finish()).unwrap();
        assert_eq!(bye.cseq().unwrap().number, 103);
        assert_eq!(bye.to().unwrap().tag().unwrap(), b"ph1");
    }

    #[test]
    fn a_strict_router_gets_its_uri_as_request_uri() {
        let response = ok("Record-Route: <sip:last.example.com;lr>, <sip:strict.example.com>");
        let mut dialog = Dialog::calling(&invite(), &response);
        let bye = dialog.request("BYE", "SIP/2.0/UDP x;branch=z9hG4bK4");
        let bye = Message::parse(bye.finish()).unwrap();
        assert_eq!(bye.request_uri().unwrap(), b"sip:strict.example.com");
        assert_eq!(
            value_texts(&bye, HeaderName::Route),
            ["<sip:last.example.com;lr>", "<sip:1001@10.0.0.9:40000>"]
        );
    }
}
