//! Client transactions of the stand-ins (RFC 3261 §17.1), and digest on top of them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::proto::sip::{HeaderName, Message, Method};
use crate::standin::digest::{Challenge, Request};
use crate::standin::draft::{Draft, header_text, label, text, value_texts};
use crate::standin::error::PhoneError;
use crate::standin::link::Peer;
use crate::standin::ua::{Endpoint, T1, T2, client_key, random_token};

const RESPONSES: usize = 32;

/// One request and the responses to it.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The request.
    pub(crate) request: Message,
    responses: mpsc::Receiver<io::Result<Message>>,
}

/// Who answers challenges.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// The user name.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: String,
}

impl Exchange {
    /// Takes the next response; `None` after the last one.
    pub(crate) async fn recv(&mut self) -> Option<io::Result<Message>> {
        self.responses.recv().await
    }

    /// Waits for the next response.
    async fn next(
        &mut self,
        endpoint: &Endpoint,
        awaited: &str,
        patience: Duration,
    ) -> Result<Message, PhoneError> {
        let next = self.responses.recv();
        Ok(endpoint.wait(awaited, patience, next).await??)
    }

    /// Waits for the final response.
    pub(crate) async fn last(
        &mut self,
        endpoint: &Endpoint,
        patience: Duration,
    ) -> Result<Message, PhoneError> {
        let awaited = format!("the final response to {}", label(&self.request));
        loop {
            let response = self.next(endpoint, &awaited, patience).await?;
            if response.status().is_some_and(|status| status >= 200) {
                return Ok(response);
            }
        }
    }
}

impl Endpoint {
    /// Sends a request as a transaction of its own; retransmissions go on by themselves.
    pub(crate) async fn transact(&self, to: Peer, request: Bytes) -> Result<Exchange, PhoneError> {
        let request = Message::parse(request)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let (sender, responses) = mpsc::channel(RESPONSES);
        let (inbox, arrived) = mpsc::channel(RESPONSES);
        if let Some(key) = client_key(&request) {
            self.add_client(key, inbox);
        }
        self.send(to, request.raw(), false).await?;
        let client = Client {
            endpoint: self.clone(),
            request: request.clone(),
            to,
            user: sender,
        };
        self.spawn(client.run(arrived));
        Ok(Exchange { request, responses })
    }
}

struct Client {
    endpoint: Endpoint,
    request: Message,
    to: Peer,
    user: mpsc::Sender<io::Result<Message>>,
}

impl Client {
    async fn run(self, arrived: mpsc::Receiver<Message>) {
        if let Err(error) = self.exchange(arrived).await {
            // dropped: the user of the transaction is gone, or reads nothing.
            self.user.try_send(Err(error)).ok();
        }
        if let Some(key) = client_key(&self.request) {
            self.endpoint.remove_client(&key);
        }
    }

    async fn exchange(&self, mut arrived: mpsc::Receiver<Message>) -> io::Result<()> {
        let invite = self.request.method() == Some(Method::Invite);
        let reliable = self.to.transport.is_reliable();
        let bytes = self.request.raw();
        let deadline = Instant::now() + 64 * T1;
        let mut interval = T1;
        let mut resend = Instant::now() + interval;
        let mut proceeding = false;
        loop {
            // RFC 3261 §17.1.1.2: an INVITE that drew a 1xx is neither repeated nor timed.
            let settled = invite && proceeding;
            tokio::select! {
                response = arrived.recv() => {
                    let Some(response) = response else {
                        return Ok(());
                    };
                    proceeding = true;
                    if self.take(response, invite).await? {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(resend), if !(reliable || settled) => {
                    self.endpoint.send(self.to, bytes, true).await?;
                    // RFC 3261 §17.1.2.2: E is T2 in Proceeding; A doubles without a cap.
                    interval = if proceeding { T2 } else { interval * 2 };
                    if !invite {
                        interval = interval.min(T2);
                    }
                    resend = Instant::now() + interval;
                }
                () = tokio::time::sleep_until(deadline), if !settled => {
                    let what = format!("no final response to {} in {:?}", label(&self.request), 64 * T1);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
            }
        }
    }

    /// Hands a response on; true if it is final.
    async fn take(&self, response: Message, invite: bool) -> io::Result<bool> {
        let status = response.status().unwrap_or_default();
        if invite && status >= 300 {
            let ack = refusal_ack(&self.request, &response);
            self.endpoint.remember_ack(&response, self.to, ack.clone());
            self.endpoint.send(self.to, &ack, false).await?;
        }
        // dropped: the user of the transaction is gone, or reads nothing.
        self.user.try_send(Ok(response)).ok();
        Ok(status >= 200)
    }
}

/// Writes the ACK to a non-2xx final response (RFC 3261 §17.1.1.3).
fn refusal_ack(invite: &Message, response: &Message) -> Bytes {
    same_transaction(invite, "ACK", &header_text(response, HeaderName::To)).finish()
}

/// Begins an ACK or CANCEL: the INVITE's Request-URI, topmost Via, Route, From, Call-ID, number.
pub(crate) fn same_transaction(invite: &Message, method: &str, to: &str) -> Draft {
    let uri = text(invite.request_uri().unwrap_or_default());
    let via = value_texts(invite, HeaderName::Via);
    let number = invite.cseq().map_or(0, |cseq| cseq.number);
    Draft::request(method, &uri, via.first().map_or("", String::as_str))
        .lines("Route", invite.values(HeaderName::Route))
        .line("From", header_text(invite, HeaderName::From))
        .line("To", to)
        .line("Call-ID", header_text(invite, HeaderName::CallId))
        .line("CSeq", format!("{number} {method}"))
}

/// An answer to a challenge: the header's name and value, and whether only the nonce was stale.
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    pub(crate) header: &'static str,
    pub(crate) value: String,
    pub(crate) stale: bool,
}

/// Answers the first challenge of a 401 or 407 that can be answered (RFC 3261 §22.2, §22.3).
pub(crate) fn authorize(
    response: &Message,
    login: &Login,
    method: &str,
    uri: &str,
) -> Option<Authorization> {
    let (challenge, header) = match response.status()? {
        401 => (HeaderName::WwwAuthenticate, "Authorization"),
        407 => (HeaderName::ProxyAuthenticate, "Proxy-Authorization"),
        _ => return None,
    };
    let challenge = response
        .headers()
        .filter(|line| line.name == challenge)
        .find_map(|line| Challenge::parse(&text(line.value)))?;
    let request = Request {
        user: &login.user,
        password: &login.password,
        method,
        uri,
    };
    Some(Authorization {
        header,
        value: challenge.answer(request, &random_token(), 1),
        stale: challenge.stale,
    })
}

/// Turns a refusal into the error that says so.
pub(crate) fn refused(request: &Message, response: &Message) -> PhoneError {
    let uri = text(request.request_uri().unwrap_or_default());
    PhoneError::Refused {
        request: format!("{} {uri}", label(request)),
        status: response.status().unwrap_or_default(),
        reason: text(response.reason().unwrap_or_default()),
    }
}
