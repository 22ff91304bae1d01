//! Counting messages: one atomic addition each, whatever the labels.

use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;

use crate::proto::Transport;
use crate::telemetry::metrics::Metrics;

/// Methods that have a label of their own; the last one is for all others.
const METHODS: [&str; 15] = [
    "ACK",
    "BYE",
    "CANCEL",
    "INFO",
    "INVITE",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "PUBLISH",
    "REFER",
    "REGISTER",
    "SUBSCRIBE",
    "UPDATE",
    "other",
];
const CLASSES: [&str; 7] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "other"];
const DIRECTIONS: [&str; 2] = ["in", "out"];
const TRANSPORTS: [&str; 5] = ["udp", "tcp", "tls", "ws", "wss"];
/// Counters per method or class.
const WIDTH: usize = DIRECTIONS.len() * TRANSPORTS.len();

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// The counters of messages, each made when it is first needed.
#[derive(Debug)]
pub(super) struct Traffic {
    requests: Vec<OnceLock<Counter>>,
    responses: Vec<OnceLock<Counter>>,
}

impl Traffic {
    pub(super) fn new() -> Self {
        let cells = |count: usize| (0..count * WIDTH).map(|_| OnceLock::new()).collect();
        Self {
            requests: cells(METHODS.len()),
            responses: cells(CLASSES.len()),
        }
    }

    /// Counts a message by its first line.
    pub(super) fn count(
        &self,
        metrics: &Metrics,
        direction: Direction,
        transport: Transport,
        message: &[u8],
    ) {
        let direction = usize::from(direction == Direction::Out);
        let transport = transport_index(transport);
        let (cells, family, names, row) = match class_of(message) {
            Some(class) => (&self.responses, &metrics.responses, &CLASSES[..], class),
            None => (
                &self.requests,
                &metrics.requests,
                &METHODS[..],
                method_of(message),
            ),
        };
        let index = row * WIDTH + direction * TRANSPORTS.len() + transport;
        let (Some(cell), Some(name), Some(direction), Some(transport)) = (
            cells.get(index),
            names.get(row),
            DIRECTIONS.get(direction),
            TRANSPORTS.get(transport),
        ) else {
            return;
        };
        cell.get_or_init(|| family.of([name, direction, transport]))
            .inc();
    }
}

/// The row of a response's class; `None` for a request.
fn class_of(message: &[u8]) -> Option<usize> {
    let rest = message.strip_prefix(b"SIP/2.0 ")?;
    match rest.first() {
        Some(digit @ b'1'..=b'6') => Some(usize::from(digit - b'1')),
        Some(_) | None => Some(CLASSES.len() - 1),
    }
}

fn method_of(message: &[u8]) -> usize {
    let other = METHODS.len() - 1;
    let end = message.iter().take(16).position(|byte| *byte == b' ');
    let token = end.and_then(|end| message.get(..end)).unwrap_or_default();
    let known = METHODS.iter().take(other);
    known
        .clone()
        .position(|method| method.as_bytes() == token)
        .unwrap_or(other)
}

const fn transport_index(transport: Transport) -> usize {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
        Transport::Ws => 3,
        Transport::Wss => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_by_their_first_line() {
        let (metrics, traffic) = (Metrics::new(), Traffic::new());
        let count = |direction, transport, message: &str| {
            traffic.count(&metrics, direction, transport, message.as_bytes());
        };
        count(Direction::In, Transport::Udp, "INVITE sip:a@b SIP/2.0\r\n");
        count(Direction::In, Transport::Udp, "INVITE sip:c@d SIP/2.0\r\n");
        count(
            Direction::Out,
            Transport::Tls,
            "SIP/2.0 480 Temporarily\r\n",
        );
        count(
            Direction::Out,
            Transport::Tcp,
            "FROBNICATE sip:a@b SIP/2.0\r\n",
        );
        count(Direction::Out, Transport::Tcp, "");
        let text = metrics.encode();
        for line in [
            r#"requests_total{method="INVITE",direction="in",transport="udp"} 2"#,
            r#"responses_total{status_class="4xx",direction="out",transport="tls"} 1"#,
            r#"requests_total{method="other",direction="out",transport="tcp"} 2"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn the_labels_are_those_of_the_transports() {
        for transport in [
            Transport::Tcp,
            Transport::Tls,
            Transport::Udp,
            Transport::Ws,
            Transport::Wss,
        ] {
            assert_eq!(TRANSPORTS[transport_index(transport)], transport.label());
        }
    }
}
