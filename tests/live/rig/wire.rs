//! What an Asterisk sent and received, out of its own log (`sipdebug`, `pjsip set logger`).

/// One SIP message as Asterisk logged it.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// Whether Asterisk sent it.
    pub(crate) is_sent: bool,
    /// Whether it is chan_sip's retransmission. (PJSIP does not say.)
    pub(crate) is_again: bool,
    /// The message, lines ending with a line feed.
    pub(crate) text: String,
}

impl Wire {
    /// Returns the request line or status line.
    pub(crate) fn start(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Returns the method of a request.
    pub(crate) fn method(&self) -> Option<&str> {
        let method = self.start().split(' ').next()?;
        (method != "SIP/2.0").then_some(method)
    }

    /// Returns the status of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        let rest = self.start().strip_prefix("SIP/2.0 ")?;
        rest.get(..3)?.parse().ok()
    }

    /// Returns the Request-URI of a request.
    pub(crate) fn uri(&self) -> Option<&str> {
        self.method()?;
        self.start().split(' ').nth(1)
    }

    /// Returns the values of a header, one for each line.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        self.text
            .lines()
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':'))
            .filter(|(this, _)| this.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// Returns the first value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers(name).first().copied().unwrap_or_default()
    }

    /// Returns the body, lines ending with a line feed, without the last one's end.
    pub(crate) fn body(&self) -> &str {
        let body = self.text.split_once("\n\n").map(|(_, body)| body);
        body.unwrap_or_default().trim_end()
    }

    /// Returns the method in CSeq, which says what a response answers.
    pub(crate) fn answers(&self) -> &str {
        self.header("CSeq").split(' ').nth(1).unwrap_or_default()
    }
}

/// Reads the messages out of a log.
pub(super) fn read(log: &str) -> Vec<Wire> {
    let mut messages = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(is_sent) = begins(line) else {
            continue;
        };
        let mut text = String::new();
        while let Some(line) = lines.next_if(|line| !ends(line)) {
            text.push_str(line);
            text.push('\n');
        }
        messages.push(Wire {
            is_sent,
            is_again: line.contains("Retransmitting"),
            text,
        });
    }
    messages
}

/// Returns whether a message that was sent (or one that was received) begins behind this line.
fn begins(line: &str) -> Option<bool> {
    if line.starts_with("<--- SIP read from ") || line.contains("<--- Received SIP ") {
        return Some(false);
    }
    let is_sent = line.contains("<--- Transmitting ")
        || line.contains("eliably Transmitting (")
        || line.contains(" Transmitting (")
        || line.contains(" Retransmitting #");
    is_sent.then_some(true)
}

/// Nothing inside a message begins like this.
fn ends(line: &str) -> bool {
    line.starts_with("<---") || line == "---" || line.starts_with("[20")
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn messages_of_both_logs_are_read() {
        let log = "[2026-11-22 13:51:30.051] VERBOSE[1182] chan_sip.c: \n\
            <--- SIP read from UDP:127.0.0.3:5060 --->\n\
            SIP/2.0 200 OK\nCSeq: 102 INVITE\n\nv=0\n<------------->\n\
            [2026-11-22 13:51:30.551] VERBOSE[1182] chan_sip.c: Retransmitting #1 (NAT) to 127.0.0.3:5060:\n\
            NOTIFY sip:a@127.0.0.3 SIP/2.0\nCall-ID: x\n\n\n---\n\
            [2026-11-22 13:51:30.118] VERBOSE[1128] res_pjsip_logger.c: <--- Transmitting SIP request (447 bytes) to UDP:127.0.0.4:5060 --->\n\
            BYE sip:a@127.0.0.3 SIP/2.0\nRoute: <sip:b;lr>\nRoute: <sip:c;lr>\n\n\n";
        let [answer, notify, bye] = &read(log)[..] else {
            panic!("{:?}", read(log));
        };
        assert_eq!((answer.is_sent, answer.status()), (false, Some(200)));
        assert_eq!(answer.answers(), "INVITE");
        assert!(notify.is_sent && notify.is_again);
        assert_eq!(notify.uri(), Some("sip:a@127.0.0.3"));
        assert_eq!(bye.method(), Some("BYE"));
        assert_eq!(bye.headers("route"), ["<sip:b;lr>", "<sip:c;lr>"]);
    }
}
