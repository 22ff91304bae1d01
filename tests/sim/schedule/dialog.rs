//! A dialog as one of its ends sees it (RFC 3261 §12).

use bytes::Bytes;
use rouse::proto::sip::{HeaderName, Message};

use super::text::{self, Draft};

/// One call, answered.
#[derive(Clone, Debug)]
pub struct Dialog {
    pub call: String,
    /// Who we are, with our tag.
    local: String,
    remote: String,
    routes: Vec<String>,
    target: String,
    cseq: u32,
}

impl Dialog {
    /// Of the answer that the caller got.
    pub fn of_caller(success: &Message) -> Self {
        let mut dialog = Self::of(success, HeaderName::From, HeaderName::To);
        dialog.routes.reverse();
        dialog.cseq = success.cseq().map_or(1, |cseq| cseq.number);
        dialog
    }

    /// Of the INVITE that the callee took; `tag` is its own.
    pub fn of_callee(invite: &Message, tag: &str) -> Self {
        let mut dialog = Self::of(invite, HeaderName::To, HeaderName::From);
        if !text::has_tag(dialog.local.as_bytes()) {
            dialog.local.push_str(&format!(";tag={tag}"));
        }
        dialog.cseq = 1000;
        dialog
    }

    fn of(message: &Message, local: HeaderName, remote: HeaderName) -> Self {
        let routes = message.values(HeaderName::RecordRoute);
        Self {
            call: text::header(message, HeaderName::CallId),
            local: text::header(message, local),
            remote: text::header(message, remote),
            routes: routes
                .map(|route| String::from_utf8_lossy(route).into_owned())
                .collect(),
            target: text::uri_of(&text::header(message, HeaderName::Contact)),
            cseq: 0,
        }
    }

    /// The next request in it. An ACK has the number of its INVITE.
    pub fn request(&mut self, method: &str, via: &str, branch: &str) -> Bytes {
        if method != "ACK" {
            self.cseq += 1;
        }
        self.write(method, via, branch)
    }

    fn write(&self, method: &str, via: &str, branch: &str) -> Bytes {
        Draft {
            method,
            uri: &self.target,
            via,
            branch,
            routes: &self.routes,
            from: &self.local,
            to: &self.remote,
            call: &self.call,
            cseq: self.cseq,
            more: "Contact: <sip:dialog@192.0.2.80:5080>\r\n",
            body: "",
        }
        .write()
    }
}
