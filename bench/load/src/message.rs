//! Messages of the load: written from templates, read as far as the load needs.
//!
//! A Call-ID begins with the number of what it belongs to, so that nothing has to be looked up.

use std::io::Write;
use std::net::SocketAddrV4;

use memchr::{memchr, memmem};

/// The domain of the agents' addresses.
pub const DOMAIN: &str = "example.test";

const SDP: &str = "v=0\r\no=- 3724394400 3724394400 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\n\
t=0 0\r\nm=audio 40000 RTP/AVP 96 9 8 0 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";

const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER, UPDATE, PRACK";

/// What a message is, as far as the load cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A response: its status, and whether its CSeq says INVITE, BYE or REGISTER.
    Response(u16, Method),
    /// A request.
    Request(Method),
}

/// A method that the load knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// INVITE.
    Invite,
    /// ACK.
    Ack,
    /// BYE.
    Bye,
    /// REGISTER.
    Register,
    /// Any other.
    Other,
}

/// Reads what a message is.
pub fn kind(message: &[u8]) -> Kind {
    if let Some(rest) = message.strip_prefix(b"SIP/2.0 ") {
        let digits = rest.get(..3).unwrap_or(b"000");
        let status = digits.iter().fold(0, |all, digit| {
            all * 10 + u16::from(digit.wrapping_sub(b'0'))
        });
        let cseq = header(message, b"CSeq").unwrap_or_default();
        let name = memchr(b' ', cseq).map_or(&b""[..], |at| &cseq[at + 1..]);
        return Kind::Response(status, method(name));
    }
    let end = memchr(b' ', message).unwrap_or(0);
    Kind::Request(method(&message[..end]))
}

fn method(name: &[u8]) -> Method {
    match name {
        b"INVITE" => Method::Invite,
        b"ACK" => Method::Ack,
        b"BYE" => Method::Bye,
        b"REGISTER" => Method::Register,
        _ => Method::Other,
    }
}

/// The number that a Call-ID begins with.
pub fn number(message: &[u8]) -> Option<usize> {
    let call = header(message, b"Call-ID")?;
    let end = memchr(b'-', call)?;
    std::str::from_utf8(&call[..end]).ok()?.parse().ok()
}

/// The first value of a header, by its long name.
pub fn header<'a>(message: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines(message).find_map(|line| value_of(line, name))
}

/// The values of a header, a line each.
pub fn headers<'a>(message: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    lines(message).filter_map(move |line| value_of(line, name))
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (own, rest) = line.split_at_checked(name.len())?;
    let rest = rest.strip_prefix(b":")?;
    own.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

/// The header lines.
fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let end = memmem::find(rest, b"\r\n")?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        (!line.is_empty()).then_some(line)
    })
    .skip(1)
}

/// The Content-Length of a head.
pub fn content_length(head: &[u8]) -> usize {
    let all = [head, b"\r\n\r\n"].concat();
    header(&all, b"Content-Length")
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
        .unwrap_or(0)
}

/// The URI of a name-addr.
pub fn uri_of(value: &[u8]) -> Option<&str> {
    let start = memchr(b'<', value)? + 1;
    let end = memchr(b'>', value)?;
    std::str::from_utf8(value.get(start..end)?).ok()
}

/// An answer to a request, with what RFC 3261 §8.2.6 has it copy.
pub fn answer(out: &mut Vec<u8>, request: &[u8], line: &str, more: &str, has_body: bool) {
    out.clear();
    write(out, format_args!("SIP/2.0 {line}\r\n"));
    for line in lines(request) {
        let is = |name: &[u8]| value_of(line, name).is_some();
        if is(b"Via") || is(b"From") || is(b"Call-ID") || is(b"CSeq") || is(b"Record-Route") {
            out.extend_from_slice(line);
        } else if is(b"To") {
            out.extend_from_slice(line);
            if memmem::find(line, b";tag=").is_none() {
                out.extend_from_slice(b";tag=answer");
            }
        } else {
            continue;
        }
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(more.as_bytes());
    if has_body {
        let length = SDP.len();
        write(
            out,
            format_args!("Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{SDP}"),
        );
    } else {
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }
}

/// A call's INVITE from Asterisk's side.
pub fn invite(out: &mut Vec<u8>, call: &str, uri: &str, to: &str, from: SocketAddrV4) {
    out.clear();
    let length = SDP.len();
    write(
        out,
        format_args!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKi{call};rport\r\n\
             Max-Forwards: 70\r\nFrom: \"Alice Example\" <sip:alice@{DOMAIN}>;tag=f{call}\r\n\
             To: <{to}>\r\nCall-ID: {call}@127.0.0.1\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:alice@{from}>\r\nAllow: {ALLOW}\r\n\
             Supported: replaces, 100rel, timer, outbound, path\r\nSession-Expires: 1800\r\n\
             Min-SE: 90\r\nUser-Agent: load/1 (measurement on loopback)\r\n\
             Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{SDP}"
        ),
    );
}

/// The ACK or the BYE of a call that this 2xx opened.
pub fn in_dialog(
    out: &mut Vec<u8>,
    ok: &[u8],
    (method, cseq): (&str, u32),
    call: &str,
    from: SocketAddrV4,
) -> Option<()> {
    let target = uri_of(header(ok, b"Contact")?)?;
    let text = |name: &[u8]| std::str::from_utf8(header(ok, name)?).ok();
    out.clear();
    write(
        out,
        format_args!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{method}{call};rport\r\n\
             Max-Forwards: 70\r\n"
        ),
    );
    let routes: Vec<&[u8]> = headers(ok, b"Record-Route").collect();
    for line in routes.iter().rev() {
        for route in line.split(|byte| *byte == b',').rev() {
            out.extend_from_slice(b"Route: ");
            out.extend_from_slice(route.trim_ascii());
            out.extend_from_slice(b"\r\n");
        }
    }
    let (from, to, id) = (text(b"From")?, text(b"To")?, text(b"Call-ID")?);
    write(
        out,
        format_args!(
            "From: {from}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: {cseq} {method}\r\n\
             User-Agent: load/1 (measurement on loopback)\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    Some(())
}

/// The ACK of a call's refusal, on the branch of its INVITE.
pub fn ack_of_refusal(
    out: &mut Vec<u8>,
    refusal: &[u8],
    uri: &str,
    call: &str,
    from: SocketAddrV4,
) -> Option<()> {
    let text = |name: &[u8]| std::str::from_utf8(header(refusal, name)?).ok();
    let (sender, to, id) = (text(b"From")?, text(b"To")?, text(b"Call-ID")?);
    out.clear();
    write(
        out,
        format_args!(
            "ACK {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKi{call};rport\r\n\
             Max-Forwards: 70\r\nFrom: {sender}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: 1 ACK\r\n\
             Content-Length: 0\r\n\r\n"
        ),
    );
    Some(())
}

/// A phone's REGISTER.
pub struct Register<'a> {
    /// The agent's number.
    pub user: usize,
    /// What its Call-ID begins with, and the rest of it.
    pub call: &'a str,
    /// Its CSeq.
    pub cseq: u32,
    /// `UDP`, `TCP` or `TLS`.
    pub transport: &'a str,
    /// The phone's own address.
    pub from: SocketAddrV4,
    /// The parameters of its Contact's URI.
    pub push: &'a str,
}

impl Register<'_> {
    /// The URI of its Contact, and its instance.
    pub fn contact(&self) -> (String, String) {
        let Self {
            user, from, push, ..
        } = self;
        let parameter = match self.transport {
            "UDP" => "",
            "TCP" => ";transport=tcp",
            _ => ";transport=tls",
        };
        let id = hex(*user as u64 + 3, 32);
        let (a, b, c, d, e) = (&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        (
            format!("sip:u{user:07}@{from}{parameter}{push}"),
            format!("<urn:uuid:{a}-{b}-{c}-{d}-{e}>"),
        )
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (uri, instance) = self.contact();
        let Self {
            user,
            call,
            cseq,
            transport,
            from,
            ..
        } = self;
        out.clear();
        write(
            out,
            format_args!(
                "REGISTER sip:{DOMAIN} SIP/2.0\r\n\
                 Via: SIP/2.0/{transport} {from};branch=z9hG4bKr{call}{cseq};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:u{user:07}@{DOMAIN}>;tag=r{call}\r\n\
                 To: <sip:u{user:07}@{DOMAIN}>\r\nCall-ID: {call}@127.0.0.1\r\nCSeq: {cseq} REGISTER\r\n\
                 Contact: <{uri}>;+sip.instance=\"{instance}\"\r\n\
                 Expires: 36000\r\nAllow: {ALLOW}\r\nSupported: path, gruu\r\n\
                 User-Agent: ExamplePhone/4.2.1 (measurement on loopback)\r\nContent-Length: 0\r\n\r\n"
            ),
        );
    }
}

/// The push parameters of an agent: APNs for even numbers, FCM for odd ones.
pub fn push_parameters(user: usize, is_apns_only: bool) -> String {
    let seed = user as u64;
    if is_apns_only || user.is_multiple_of(2) {
        let token = hex(seed, 64);
        format!(";pn-provider=apns;pn-param=A1B2C3D4E5.com.example.phone.voip;pn-prid={token}:voip")
    } else {
        let (id, token) = (letters(seed, 22), letters(seed + 7_777_777, 134));
        format!(";pn-provider=fcm;pn-param=example-project-1234;pn-prid={id}:APA91b{token}")
    }
}

fn scramble(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Hexadecimal digits made of a number.
fn hex(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let mut text = String::new();
    while text.len() < length {
        text += &format!("{:016x}", scramble(&mut state));
    }
    text.truncate(length);
    text
}

/// Letters of a token made of a number.
fn letters(seed: u64, length: usize) -> String {
    const ALL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xA5A5_A5A5_DEAD_BEEF;
    (0..length)
        .map(|_| char::from(ALL[(scramble(&mut state) >> 20) as usize % ALL.len()]))
        .collect()
}

fn write(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    out.write_fmt(arguments).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_read_as_it_was_written() {
        let mut out = Vec::new();
        Register {
            user: 7,
            call: "7-x",
            cseq: 2,
            transport: "UDP",
            from: "127.0.1.1:5000".parse().unwrap(),
            push: &push_parameters(7, false),
        }
        .write(&mut out);
        assert_eq!(kind(&out), Kind::Request(Method::Register));
        assert_eq!(number(&out), Some(7));
        let contact = uri_of(header(&out, b"contact").unwrap()).unwrap();
        assert!(contact.starts_with("sip:u0000007@127.0.1.1:5000;pn-provider=fcm"));
        let mut ok = Vec::new();
        answer(&mut ok, &out, "200 OK", "", false);
        assert_eq!(kind(&ok), Kind::Response(200, Method::Register));
        assert!(memmem::find(&ok, b";tag=answer").is_some());
    }
}
