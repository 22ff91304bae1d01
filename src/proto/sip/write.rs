//! Writing: a message with changes ([`Edit`]), and an answer to one ([`Reply`]).
//!
//! An edit keeps a short list of changes and copies everything between them, so that bytes that
//! nobody changed leave as they came. Two exceptions: white space before a header's colon is left
//! out, and a line that is continued becomes one line (RFC 3261 §7.3.1), because peers have taken
//! such lines for other headers than we did.

use bytes::{BufMut as _, Bytes, BytesMut};
use memchr::memchr;
use smallvec::SmallVec;

use super::header::HeaderName;
use super::message::{ANSWER_NEEDS, Message};
use super::parse::Start;
use super::scan;
use super::text::{Text, Value};

/// Changes to a message, written in one pass; bytes that are not changed leave as they came.
///
/// Names and indexes mean the lines and values of the message that came: lines that were added are
/// not removed or replaced by a later change, and a line that was removed or replaced has no values
/// to change any more. Of two changes to the same line or value the last counts.
/// [`HeaderName::Other`] names nothing: such a change does nothing.
#[derive(Debug)]
pub struct Edit<'m> {
    message: &'m Message,
    /// All new values, one behind the other.
    text: Text,
    uri: Option<Piece>,
    changes: SmallVec<[Change; 12]>,
}

/// A part of the new text.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: usize,
    to: usize,
}

#[derive(Debug)]
struct Change {
    /// The number of the line that is changed, or before which a line is added.
    line: usize,
    action: Action,
}

#[derive(Debug)]
enum Action {
    /// A new line before this one.
    Add(&'static str, Piece),
    /// The line goes.
    Remove,
    /// The line's value.
    Replace(Piece),
    /// The value at that place of the line; `None`: it goes.
    Part(usize, Option<Piece>),
}

impl<'m> Edit<'m> {
    /// Nothing changed yet.
    #[must_use]
    pub fn new(message: &'m Message) -> Self {
        Self {
            message,
            text: Text::new(),
            uri: None,
            changes: SmallVec::new(),
        }
    }

    /// Replaces the Request-URI; nothing happens to a response.
    pub fn request_uri(&mut self, uri: impl Value) -> &mut Self {
        self.uri = Some(self.write(uri));
        self
    }

    /// A new line before the first line of that name; at the top of the headers if there is none.
    /// Of two, the later is on top.
    pub fn prepend(&mut self, name: HeaderName, value: impl Value) -> &mut Self {
        let line = self.message.index.first(name).unwrap_or(0);
        let value = self.write(value);
        self.add(line, name.as_str(), value, true)
    }

    /// A new line after the last header.
    pub fn append(&mut self, name: HeaderName, value: impl Value) -> &mut Self {
        self.append_named(name.as_str(), value)
    }

    /// The same for a name that [`HeaderName`] does not list.
    pub fn append_named(&mut self, name: &'static str, value: impl Value) -> &mut Self {
        let value = self.write(value);
        self.add(self.message.index.lines.len(), name, value, false)
    }

    /// The first line's value; further lines of that name go; appended if there is none.
    pub fn replace(&mut self, name: HeaderName, value: impl Value) -> &mut Self {
        let Some(first) = self.message.index.first(name) else {
            return self.append(name, value);
        };
        self.remove(name);
        let value = self.write(value);
        self.change(first, Action::Replace(value))
    }

    /// All lines of that name go.
    pub fn remove(&mut self, name: HeaderName) -> &mut Self {
        let Some(first) = self.message.index.first(name) else {
            return self;
        };
        if name != HeaderName::Other {
            self.remove_lines(first, |line| line.name == name);
        }
        self
    }

    /// The same for a name that [`HeaderName`] does not list, any case.
    pub fn remove_named(&mut self, name: &str) -> &mut Self {
        let known = HeaderName::parse(name.as_bytes());
        if known != HeaderName::Other {
            return self.remove(known);
        }
        let message = self.message;
        self.remove_lines(0, |line| {
            message.raw_name(line).eq_ignore_ascii_case(name.as_bytes())
        });
        self
    }

    /// The `index`-th value of a list header (over all lines, as [`Message::values`] counts).
    pub fn replace_value(
        &mut self,
        name: HeaderName,
        index: usize,
        value: impl Value,
    ) -> &mut Self {
        let value = self.write(value);
        self.part(name, index, Some(value))
    }

    /// That value goes; its line too if it was the only one on it.
    pub fn remove_value(&mut self, name: HeaderName, index: usize) -> &mut Self {
        self.part(name, index, None)
    }

    /// Writes the message.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let message = self.message;
        let index = &message.index;
        if self.uri.is_none()
            && self.changes.is_empty()
            && !index.has_spaced_colon
            && !index.has_fold
        {
            return message.raw.clone();
        }
        // Stable: changes to one line keep their order.
        self.changes.sort_by_key(|change| change.line);
        let mut writer = Writer::new(message, self.text.as_slice(), self.added_len());
        if let (Some(uri), Start::Request { uri: old, .. }) = (self.uri, index.start) {
            writer.copy_to(old.from as usize);
            writer.put(uri);
            writer.skip_to(old.to as usize);
        }
        let mut rest = self.changes.as_slice();
        if index.has_spaced_colon {
            for line in 0..index.lines.len() {
                let count = rest.iter().take_while(|change| change.line == line).count();
                let (changes, more) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                rest = more;
                writer.line(line, changes);
            }
        }
        while let Some(first) = rest.first() {
            let same = |change: &&Change| change.line == first.line;
            let count = rest.iter().take_while(same).count();
            let (changes, more) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = more;
            writer.line(first.line, changes);
        }
        writer.copy_to(index.lines_end as usize);
        if index.has_fold {
            unfold(&mut writer.out);
        }
        writer.copy_to(message.raw.len());
        writer.out.freeze()
    }

    /// At most so many bytes come to the message's.
    fn added_len(&self) -> usize {
        let names = self.changes.iter().map(|change| match &change.action {
            Action::Add(name, _) => name.len() + 4,
            Action::Remove | Action::Replace(_) | Action::Part(..) => 2,
        });
        self.text.len() + names.sum::<usize>()
    }

    fn write(&mut self, value: impl Value) -> Piece {
        let from = self.text.len();
        value.put(&mut self.text);
        let to = self.text.len();
        Piece { from, to }
    }

    fn add(&mut self, line: usize, name: &'static str, value: Piece, on_top: bool) -> &mut Self {
        if name.is_empty() {
            return self;
        }
        let change = Change {
            line,
            action: Action::Add(name, value),
        };
        // The last one that is added on top of a line is to be written first.
        if on_top {
            self.changes.insert(0, change);
        } else {
            self.changes.push(change);
        }
        self
    }

    fn change(&mut self, line: usize, action: Action) -> &mut Self {
        self.changes.push(Change { line, action });
        self
    }

    fn remove_lines(&mut self, from: usize, wanted: impl Fn(&super::parse::Line) -> bool) {
        let lines = self.message.index.lines.iter().enumerate().skip(from);
        for (line, _) in lines.filter(|(_, line)| wanted(line)) {
            self.changes.push(Change {
                line,
                action: Action::Remove,
            });
        }
    }

    fn part(&mut self, name: HeaderName, index: usize, value: Option<Piece>) -> &mut Self {
        let Some((line, _)) = self.message.value_spots(name).nth(index) else {
            return self;
        };
        let before = self
            .message
            .value_spots(name)
            .take(index)
            .filter(|&(other, _)| other == line)
            .count();
        self.change(line, Action::Part(before, value))
    }
}

/// Copies the message up to each change.
struct Writer<'m> {
    message: &'m Message,
    /// The new values.
    text: &'m [u8],
    out: BytesMut,
    /// How much of the message has been dealt with.
    done: usize,
}

impl<'m> Writer<'m> {
    fn new(message: &'m Message, text: &'m [u8], added: usize) -> Self {
        Self {
            message,
            text,
            out: BytesMut::with_capacity(message.raw.len() + added),
            done: 0,
        }
    }

    fn new_value(&self, piece: Piece) -> &'m [u8] {
        scan::cut(self.text, piece.from, piece.to)
    }

    fn put(&mut self, piece: Piece) {
        let value = self.new_value(piece);
        self.out.put_slice(value);
    }

    fn copy_to(&mut self, to: usize) {
        let part = scan::cut(&self.message.raw, self.done, to);
        self.out.put_slice(part);
        self.skip_to(to);
    }

    fn skip_to(&mut self, to: usize) {
        self.done = self.done.max(to);
    }

    /// Writes one line with all its changes, and the lines before it.
    fn line(&mut self, number: usize, changes: &[Change]) {
        let index = &self.message.index;
        let line = index.lines.get(number);
        self.copy_to(line.map_or(index.lines_end, |line| line.at) as usize);
        let mut is_removed = false;
        let mut value = None;
        let mut parts = SmallVec::<[(usize, Option<&[u8]>); 4]>::new();
        for change in changes {
            match &change.action {
                Action::Add(name, value) => {
                    let value = self.new_value(*value);
                    put_line(&mut self.out, name.as_bytes(), value);
                }
                Action::Remove => {
                    is_removed = true;
                    value = None;
                    parts.clear();
                }
                Action::Replace(new) => {
                    is_removed = false;
                    value = Some(self.new_value(*new));
                    parts.clear();
                }
                Action::Part(at, new) => parts.push((*at, new.map(|new| self.new_value(new)))),
            }
        }
        let Some(line) = line else { return };
        if is_removed {
            return self.skip_to(index.line_end(number));
        }
        let name_end = line.at as usize + usize::from(line.name_len);
        self.copy_to(name_end);
        let colon = scan::cut(&self.message.raw, name_end, line.value.from as usize)
            .iter()
            .take_while(|&&byte| byte != b':')
            .count();
        self.skip_to(name_end + colon);
        if let Some(value) = value {
            self.out.put_slice(b": ");
            self.out.put_slice(value);
            self.skip_to(line.value.to as usize);
        } else if !parts.is_empty() {
            self.parts(number, &parts);
        }
    }

    /// Writes a line's value with some of its values changed; the name has been written.
    fn parts(&mut self, number: usize, parts: &[(usize, Option<&[u8]>)]) {
        let index = &self.message.index;
        let Some(line) = index.lines.get(number) else {
            return;
        };
        let raw = &self.message.raw;
        let changed = |at: usize| parts.iter().rev().find(|(part, _)| *part == at);
        let mut rest = line.value.of(raw);
        let before = self.out.len();
        let mut is_first = true;
        for at in 0.. {
            let Some(value) = scan::next_in_list(&mut rest) else {
                break;
            };
            let from = scan::offset_in(raw, value);
            let new = match changed(at) {
                Some((_, None)) => {
                    self.skip_to(from + value.len());
                    continue;
                }
                Some((_, Some(new))) => Some(*new),
                None => None,
            };
            if is_first {
                let lead = scan::cut(raw, self.done, line.value.from as usize);
                self.out
                    .put_slice(if lead.is_empty() { b": " } else { lead });
            } else {
                // What stands between two values that both stay is theirs: white space, folds.
                let between = scan::cut(raw, self.done, from);
                self.out
                    .put_slice(if between.is_empty() { b", " } else { between });
            }
            is_first = false;
            self.out.put_slice(new.unwrap_or(value));
            self.skip_to(from + value.len());
        }
        if is_first {
            // Nothing is left: the line goes, and its name with it.
            self.out.truncate(before - usize::from(line.name_len));
            self.skip_to(index.line_end(number));
        } else {
            self.skip_to(line.value.to as usize);
        }
    }
}

/// Makes one line of each that is continued: white space takes the place of the line end.
fn unfold(head: &mut [u8]) {
    let mut at = 0;
    while let Some(rest) = head.get_mut(at..)
        && let Some(end) = memchr(b'\r', rest)
    {
        if let Some([cr, lf, b' ' | b'\t', ..]) = rest.get_mut(end..) {
            (*cr, *lf) = (b' ', b' ');
        }
        at += end + 1;
    }
}

/// A response made here (RFC 3261 §8.2.6): Via, From, To, Call-ID, CSeq of the request.
///
/// What the request lacks is left out, so that one that fails [`Message::validate`] can be
/// answered. The 100 also gets the request's Timestamp (§8.2.6.1).
#[derive(Debug)]
pub struct Reply<'m> {
    request: &'m Message,
    status: u16,
    reason: &'m str,
    /// All new values, one behind the other.
    text: Text,
    top_via: Option<Piece>,
    to_tag: Option<Piece>,
    headers: SmallVec<[(&'static str, Piece); 4]>,
}

impl<'m> Reply<'m> {
    /// A response without a body.
    #[must_use]
    pub fn new(request: &'m Message, status: u16, reason: &'m str) -> Self {
        Self {
            request,
            status,
            reason,
            text: Text::new(),
            top_via: None,
            to_tag: None,
            headers: SmallVec::new(),
        }
    }

    /// Replaces the top Via value (with received/rport).
    pub fn top_via(&mut self, value: impl Value) -> &mut Self {
        self.top_via = Some(self.write(value));
        self
    }

    /// Added to To if it has none; never on 100.
    pub fn to_tag(&mut self, tag: impl Value) -> &mut Self {
        self.to_tag = Some(self.write(tag));
        self
    }

    /// One more header line.
    pub fn header(&mut self, name: HeaderName, value: impl Value) -> &mut Self {
        self.header_named(name.as_str(), value)
    }

    /// The same for a name that [`HeaderName`] does not list.
    pub fn header_named(&mut self, name: &'static str, value: impl Value) -> &mut Self {
        if !name.is_empty() {
            let value = self.write(value);
            self.headers.push((name, value));
        }
        self
    }

    /// Always with Content-Length.
    #[must_use]
    pub fn finish(self) -> Bytes {
        let head = self.request.index.lines_end as usize;
        let mut out = BytesMut::with_capacity(head + self.text.len() + 128);
        let mut status = Text::new();
        status.decimal(self.status);
        out.put_slice(b"SIP/2.0 ");
        out.put_slice(status.as_slice());
        out.put_u8(b' ');
        out.put_slice(self.reason.as_bytes());
        out.put_slice(b"\r\n");
        for name in ANSWER_NEEDS {
            self.copy(&mut out, name);
        }
        if self.status == 100 {
            self.copy(&mut out, HeaderName::Timestamp);
        }
        for (name, value) in &self.headers {
            put_line(&mut out, name.as_bytes(), self.new_value(*value));
        }
        out.put_slice(b"Content-Length: 0\r\n\r\n");
        out.freeze()
    }

    fn write(&mut self, value: impl Value) -> Piece {
        let from = self.text.len();
        value.put(&mut self.text);
        let to = self.text.len();
        Piece { from, to }
    }

    fn new_value(&self, piece: Piece) -> &[u8] {
        scan::cut(self.text.as_slice(), piece.from, piece.to)
    }

    /// Copies a header of the request: all lines of Via, the first of others.
    fn copy(&self, out: &mut BytesMut, name: HeaderName) {
        let label = name.as_str().as_bytes();
        if name == HeaderName::Via {
            let lines = self.request.headers().filter(|line| line.name == name);
            for (at, line) in lines.enumerate() {
                match self.top_via {
                    Some(top) if at == 0 => {
                        let mut rest = line.value;
                        let replaced = scan::next_in_list(&mut rest).is_some();
                        put_line(out, label, self.new_value(top));
                        let rest = scan::trim(rest);
                        if replaced && !rest.is_empty() {
                            put_line(out, label, rest);
                        }
                    }
                    _ => put_line(out, label, line.value),
                }
            }
            return;
        }
        let Some(value) = self.request.header(name) else {
            return;
        };
        match self.missing_tag() {
            Some(tag) if name == HeaderName::To => {
                put_parts(out, label, &[value, b";tag=", tag]);
            }
            _ => put_line(out, label, value),
        }
    }

    fn missing_tag(&self) -> Option<&[u8]> {
        let tag = self.to_tag.filter(|_| self.status != 100)?;
        let has_tag = self.request.to().is_ok_and(|to| to.tag().is_some());
        (!has_tag).then(|| self.new_value(tag))
    }
}

fn put_line(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    put_parts(out, name, &[value]);
}

fn put_parts(out: &mut BytesMut, name: &[u8], parts: &[&[u8]]) {
    out.put_slice(name);
    out.put_slice(b": ");
    for part in parts {
        out.put_slice(part);
    }
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:bob@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=1,\r\n SIP/2.0/UDP b;branch=2\r\nv: SIP/2.0/TCP c\r\nFrom: <sip:a@h>;tag=1\r\nt :<sip:bob@h>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nX-Odd:  kept  \r\nRoute: <sip:r1;lr>, <sip:r2;lr>\r\nRoute: <sip:r3;lr>\r\nContent-Length: 2\r\n\r\nab";

    fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn edited(text: &str, edit: impl FnOnce(&mut Edit<'_>)) -> String {
        let message = message(text);
        let mut changes = Edit::new(&message);
        edit(&mut changes);
        String::from_utf8(changes.finish().to_vec()).unwrap()
    }

    #[test]
    fn without_changes_only_the_white_space_before_a_colon_and_folds_go() {
        let plain = INVITE.replace("t :", "t:").replace(",\r\n ", ",   ");
        assert_eq!(edited(INVITE, |_| {}), plain);
        assert_eq!(edited(&plain, |_| {}), plain);
    }

    #[test]
    fn lines_that_are_continued_become_one_and_the_body_stays() {
        let folded = "INVITE sip:a@h SIP/2.0\r\nSubject: one\r\n two\r\n\tthree\r\n\
            t : <sip:a@h>\r\nl:\r\n 9\r\n\r\nbo\r\n dy\r\n";
        let plain = "INVITE sip:a@h SIP/2.0\r\nSubject: one   two  \tthree\r\n\
            t: <sip:a@h>\r\nl:   9\r\n\r\nbo\r\n dy\r\n";
        assert_eq!(edited(folded, |_| {}), plain);
        let out = edited(folded, |edit| {
            edit.append_named("X", "y");
        });
        assert_eq!(out, plain.replace("9\r\n\r\n", "9\r\nX: y\r\n\r\n"));
    }

    #[test]
    fn a_proxys_changes_leave_all_other_bytes_as_they_came() {
        let out = edited(INVITE, |edit| {
            edit.request_uri("sip:new@1.2.3.4;x=y")
                .prepend(HeaderName::Via, "SIP/2.0/TLS p;branch=z9hG4bK1")
                .replace_value(
                    HeaderName::Via,
                    0,
                    "SIP/2.0/UDP a;branch=1;received=9.9.9.9",
                )
                .prepend(HeaderName::RecordRoute, "<sip:p;lr>")
                .replace(HeaderName::MaxForwards, "69")
                .remove_value(HeaderName::Route, 0);
        });
        let expected = INVITE
            .replace("t :", "t:")
            .replace(",\r\n ", ",   ")
            .replace("sip:bob@h SIP", "sip:new@1.2.3.4;x=y SIP")
            .replace(
                "Via: SIP/2.0/UDP a;branch=1,",
                "Record-Route: <sip:p;lr>\r\nVia: SIP/2.0/TLS p;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP a;branch=1;received=9.9.9.9,",
            )
            .replace("Route: <sip:r1;lr>, <sip:r2;lr>", "Route: <sip:r2;lr>")
            .replace("Content-Length: 2\r\n", "Content-Length: 2\r\nMax-Forwards: 69\r\n");
        assert_eq!(out, expected);
    }

    #[test]
    fn a_line_goes_with_its_last_value() {
        let out = edited(INVITE, |edit| {
            edit.remove_value(HeaderName::Route, 0)
                .remove_value(HeaderName::Route, 1)
                .remove_value(HeaderName::Via, 2)
                .remove_value(HeaderName::Route, 9);
        });
        assert!(!out.contains("r1") && !out.contains("r2") && !out.contains("v:"));
        assert!(out.contains("  kept  \r\nRoute: <sip:r3;lr>\r\nContent"));
    }

    #[test]
    fn replace_keeps_one_line_and_remove_none() {
        let out = edited(INVITE, |edit| {
            edit.replace(HeaderName::Via, "SIP/2.0/UDP x")
                .remove(HeaderName::Route)
                .remove_named("x-oDD")
                .append_named("X-New", "1");
        });
        assert_eq!(out.matches("SIP/2.0/").count(), 1);
        assert!(!out.contains("Route") && !out.contains("kept"));
        assert!(out.contains("Content-Length: 2\r\nX-New: 1\r\n\r\n"));
    }

    #[test]
    fn an_answer_copies_what_the_rfc_says() {
        let request = message(INVITE);
        let mut reply = Reply::new(&request, 480, "Temporarily Unavailable");
        reply
            .top_via("SIP/2.0/UDP a;branch=1;received=9.9.9.9")
            .to_tag("t1")
            .header(HeaderName::RetryAfter, "5");
        assert_eq!(
            std::str::from_utf8(&reply.finish()).unwrap(),
            "SIP/2.0 480 Temporarily Unavailable\r\nVia: SIP/2.0/UDP a;branch=1;received=9.9.9.9\r\nVia: SIP/2.0/UDP b;branch=2\r\nVia: SIP/2.0/TCP c\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:bob@h>;tag=t1\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_100_gets_no_tag_and_an_existing_tag_stays() {
        let request = message(INVITE);
        let mut reply = Reply::new(&request, 100, "Trying");
        reply.to_tag("t1");
        assert!(!reply.finish().windows(6).any(|part| part == b"tag=t1"));
        let tagged = INVITE.replace("t :<sip:bob@h>", "To: <sip:bob@h>;tag=old");
        let request = message(&tagged);
        let mut reply = Reply::new(&request, 481, "x");
        reply.to_tag("t1");
        let out = reply.finish();
        assert!(out.windows(9).any(|part| part == b";tag=old\r"));
        assert!(!out.windows(6).any(|part| part == b"tag=t1"));
    }
}
