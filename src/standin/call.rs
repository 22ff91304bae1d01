//! Calls of a stand-in: one that came in, one that goes out. Both ends of a phone and of Asterisk.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::proto::sip::{HeaderName, Message, NameAddr};
pub use crate::standin::draft::Content;
use crate::standin::draft::{Draft, header_text, label, text, value_texts};
use crate::standin::error::PhoneError;
use crate::standin::exchange::{refused, same_transaction};
use crate::standin::inviter::{Invitation, Inviter};
use crate::standin::leg::Leg;
use crate::standin::link::Peer;
use crate::standin::ua::{Call, CallEvent, Endpoint, random_token};

/// The default patience of every wait.
pub const PATIENCE: Duration = Duration::from_secs(10);

const RESPONSES: usize = 32;

/// Returns an offer or an answer that any peer takes: one audio stream, PCMA and PCMU.
#[must_use]
pub fn plain_sdp(ip: IpAddr) -> String {
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 8 0\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
    )
}

/// The caller gave up.
#[derive(Clone, Debug)]
pub struct Cancelled {
    /// The CANCEL as it arrived.
    pub cancel: Message,
    /// Its Reason values.
    pub reasons: Vec<String>,
}

/// The far side answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// 2xx.
    pub status: u16,
    /// The response.
    pub response: Message,
}

/// A call that came in. 100 has been sent.
#[derive(Debug)]
pub struct IncomingCall {
    /// The INVITE as it arrived.
    pub invite: Message,
    leg: Leg,
}

impl IncomingCall {
    pub(crate) fn new(
        endpoint: Endpoint,
        call: Arc<Call>,
        from: Peer,
        invite: Message,
        events: mpsc::Receiver<CallEvent>,
    ) -> Self {
        let leg = Leg::new(endpoint, call, from, events, PATIENCE);
        Self { invite, leg }
    }

    /// Sets the patience of the waits that follow (default [`PATIENCE`]).
    pub fn within(&mut self, patience: Duration) -> &mut Self {
        self.leg.patience = patience;
        self
    }

    /// Returns the Call-ID.
    #[must_use]
    pub fn call_id(&self) -> String {
        self.leg.call.key.0.clone()
    }

    /// Returns the user part of the INVITE's Request-URI.
    #[must_use]
    pub fn dialled(&self) -> String {
        self.leg.call.user.clone()
    }

    /// Sends 180 Ringing.
    pub async fn ring(&mut self) -> Result<(), PhoneError> {
        self.progress(180, Content::default()).await
    }

    /// Sends a provisional response with header lines and a body of one's own.
    pub async fn progress(&mut self, status: u16, content: Content<'_>) -> Result<(), PhoneError> {
        let progress = content.write(self.response(status)).finish();
        let leg = &self.leg;
        leg.endpoint.respond(leg.far, &self.invite, progress).await;
        Ok(())
    }

    /// Sends 200 with header lines and a body of one's own, and waits for the ACK.
    pub async fn answer_with(&mut self, content: Content<'_>) -> Result<(), PhoneError> {
        let accepted = content.write(self.response(200)).finish();
        self.finish("the ACK to our 200", accepted).await
    }

    fn response(&self, status: u16) -> Draft {
        let leg = &self.leg;
        let contact = leg
            .endpoint
            .dialog_contact(&leg.call.user, leg.far.transport);
        Draft::response(&self.invite, leg.far.address, status, &leg.call.key.1)
            .line("Contact", format!("<{contact}>"))
    }

    /// Sends 200 with an SDP answer (again and again until the ACK) and waits for the ACK.
    pub async fn answer(&mut self) -> Result<(), PhoneError> {
        let leg = &self.leg;
        let accepted = leg.endpoint.acceptance(&self.invite, leg.far, &leg.call);
        self.finish("the ACK to our 200", accepted).await
    }

    /// Sends this final status (3xx to 6xx) and waits for the ACK.
    pub async fn reject(&mut self, status: u16) -> Result<(), PhoneError> {
        self.reject_with(status, &[]).await
    }

    /// The same with further header lines.
    pub async fn reject_with(
        &mut self,
        status: u16,
        lines: &[(&str, &str)],
    ) -> Result<(), PhoneError> {
        let leg = &self.leg;
        let mut draft = Draft::response(&self.invite, leg.far.address, status, &leg.call.key.1);
        for (name, value) in lines {
            draft = draft.line(name, value);
        }
        self.finish(&format!("the ACK to our {status}"), draft.finish())
            .await
    }

    /// Waits for the CANCEL. It is answered with 200, and the INVITE with 487, as soon as it
    /// arrives, whether or not somebody waits here.
    pub async fn wait_cancel(&mut self) -> Result<Cancelled, PhoneError> {
        let event = self
            .leg
            .event("the CANCEL", |event| matches!(event, CallEvent::Cancel(_)))
            .await?;
        let cancel = event.message();
        let reasons = value_texts(&cancel, HeaderName::Reason);
        Ok(Cancelled { cancel, reasons })
    }

    /// Sends BYE and returns the status of its final response.
    pub async fn hangup(&mut self) -> Result<u16, PhoneError> {
        self.leg.hangup().await
    }

    /// Waits for the BYE; it is answered with 200 as soon as it arrives.
    pub async fn wait_bye(&mut self) -> Result<Message, PhoneError> {
        self.leg.wait_bye().await
    }

    /// Sends a re-INVITE in the dialog, acknowledges its 2xx and returns the final status.
    pub async fn reinvite(&mut self) -> Result<u16, PhoneError> {
        self.leg.reinvite().await
    }

    /// Waits for a re-INVITE; it is answered with 200 and SDP as soon as it arrives.
    pub async fn wait_reinvite(&mut self) -> Result<Message, PhoneError> {
        self.leg.wait_reinvite().await
    }

    /// Sends a re-INVITE of one's own, acknowledges its 2xx and returns the final response.
    pub async fn reinvite_with(&mut self, content: Content<'_>) -> Result<Message, PhoneError> {
        self.leg.reinvite_with(content).await
    }

    /// Sends a request in the dialog (INFO, REFER, UPDATE) and returns the final response.
    pub async fn request(
        &mut self,
        method: &str,
        content: Content<'_>,
    ) -> Result<Message, PhoneError> {
        self.leg.send(method, content).await
    }

    /// Waits for a request of this method in the dialog; it is answered with 200 as soon as it
    /// arrives.
    pub async fn wait_request(&mut self, method: &str) -> Result<Message, PhoneError> {
        self.leg.wait_request(method).await
    }

    async fn finish(&mut self, awaited: &str, response: Bytes) -> Result<(), PhoneError> {
        let leg = &self.leg;
        if leg.call.is_final.swap(true, Ordering::SeqCst) {
            return Err(PhoneError::Instead {
                awaited: awaited.to_owned(),
                instead: "a CANCEL before it".to_owned(),
            });
        }
        leg.endpoint
            .respond_until_ack(&leg.call, leg.far, &self.invite, response)
            .await;
        let cseq = self.invite.cseq().map_or(0, |cseq| cseq.number);
        let mut acked = leg.call.acked.subscribe();
        let ack = async {
            acked
                .wait_for(|acked| *acked == Some(cseq))
                .await
                .ok()
                .map(drop)
        };
        leg.endpoint.wait(awaited, leg.patience, ack).await
    }
}

/// A call that goes out.
#[derive(Debug)]
pub struct OutgoingCall {
    leg: Leg,
    /// The INVITE as it was sent last.
    invite: Arc<Mutex<Message>>,
    hop: Peer,
    responses: mpsc::Receiver<Result<Message, PhoneError>>,
    /// Responses that were read and not yet looked at.
    pending: VecDeque<Message>,
    last: Option<Message>,
}

impl OutgoingCall {
    /// Sends the INVITE and returns at the first response that is no challenge; challenges are
    /// answered in the background.
    pub(crate) async fn start(
        endpoint: Endpoint,
        invitation: Invitation,
        patience: Duration,
    ) -> Result<Self, PhoneError> {
        let key = (random_token(), random_token());
        let (call, events) = endpoint.add_call(key.clone(), &invitation.user, None);
        let hop = invitation.hop;
        let leg = Leg::new(endpoint.clone(), call, hop, events, patience);
        let draft = invitation.draft(&endpoint, &key, 1, None);
        let exchange = endpoint.transact(hop, draft).await?;
        let invite = Arc::new(Mutex::new(exchange.request.clone()));
        let (sender, responses) = mpsc::channel(RESPONSES);
        let inviter = Inviter {
            endpoint: endpoint.clone(),
            invitation,
            key,
            invite: Arc::clone(&invite),
            sender,
        };
        endpoint.spawn(inviter.run(exchange));
        let mut call = Self {
            leg,
            invite,
            hop,
            responses,
            pending: VecDeque::new(),
            last: None,
        };
        let first = call.next("any response to the INVITE").await?;
        call.pending.push_back(first);
        Ok(call)
    }

    /// Sets the patience of the waits that follow (default [`PATIENCE`]).
    pub fn within(&mut self, patience: Duration) -> &mut Self {
        self.leg.patience = patience;
        self
    }

    /// Returns the Call-ID.
    #[must_use]
    pub fn call_id(&self) -> String {
        self.leg.call.key.0.clone()
    }

    /// Returns the INVITE as it was sent last.
    #[must_use]
    pub fn invite(&self) -> Message {
        self.invite.lock().clone()
    }

    /// Waits for a provisional response above 100 and returns its status.
    pub async fn wait_ringing(&mut self) -> Result<u16, PhoneError> {
        loop {
            let response = self.next("a 18x to the INVITE").await?;
            let status = response.status().unwrap_or_default();
            if status < 200 {
                if status > 100 {
                    return Ok(status);
                }
                continue;
            }
            let instead = label(&response);
            self.pending.push_front(response);
            return Err(PhoneError::Instead {
                awaited: "a 18x to the INVITE".to_owned(),
                instead,
            });
        }
    }

    /// Waits for the 2xx and acknowledges it; another final response is `PhoneError::Refused`.
    pub async fn wait_answer(&mut self) -> Result<Answered, PhoneError> {
        let response = self.wait_final().await?;
        let status = response.status().unwrap_or_default();
        if status >= 300 {
            return Err(refused(&self.invite(), &response));
        }
        Ok(Answered { status, response })
    }

    /// Waits for the final response, whatever it is; a 2xx is acknowledged.
    pub async fn wait_final(&mut self) -> Result<Message, PhoneError> {
        if let Some(last) = &self.last {
            return Ok(last.clone());
        }
        loop {
            let response = self.next("the final response to the INVITE").await?;
            let status = response.status().unwrap_or_default();
            if status < 200 {
                continue;
            }
            self.last = Some(response.clone());
            if status < 300 {
                self.leg.accepted(&self.invite(), &response).await?;
            }
            return Ok(response);
        }
    }

    /// Sends CANCEL with these Reason values and returns the INVITE's final status (487 if it
    /// worked).
    pub async fn cancel(&mut self, reasons: &[&str]) -> Result<u16, PhoneError> {
        let invite = self.invite();
        let to = header_text(&invite, HeaderName::To);
        let cancel = same_transaction(&invite, "CANCEL", &to).lines("Reason", reasons);
        let endpoint = self.leg.endpoint.clone();
        let mut exchange = endpoint.transact(self.hop, cancel.finish()).await?;
        exchange.last(&endpoint, self.leg.patience).await?;
        let response = self.wait_final().await?;
        Ok(response.status().unwrap_or_default())
    }

    /// Sends BYE and returns the status of its final response.
    pub async fn hangup(&mut self) -> Result<u16, PhoneError> {
        self.leg.hangup().await
    }

    /// Waits for the BYE; it is answered with 200 as soon as it arrives.
    pub async fn wait_bye(&mut self) -> Result<Message, PhoneError> {
        self.leg.wait_bye().await
    }

    /// Sends a re-INVITE in the dialog, acknowledges its 2xx and returns the final status.
    pub async fn reinvite(&mut self) -> Result<u16, PhoneError> {
        self.leg.reinvite().await
    }

    /// Waits for a re-INVITE; it is answered with 200 and SDP as soon as it arrives.
    pub async fn wait_reinvite(&mut self) -> Result<Message, PhoneError> {
        self.leg.wait_reinvite().await
    }

    /// Waits for a provisional response above 100 and returns it.
    pub async fn wait_progress(&mut self) -> Result<Message, PhoneError> {
        loop {
            let response = self.next("a 1xx to the INVITE").await?;
            match response.status().unwrap_or_default() {
                100 => {}
                101..200 => return Ok(response),
                _ => {
                    let instead = label(&response);
                    self.pending.push_front(response);
                    return Err(PhoneError::Instead {
                        awaited: "a 1xx to the INVITE".to_owned(),
                        instead,
                    });
                }
            }
        }
    }

    /// Acknowledges a reliable provisional response (RFC 3262 §4) and returns the answer.
    pub async fn prack(&mut self, response: &Message) -> Result<Message, PhoneError> {
        let invite = self.invite();
        self.leg.begin(&invite, response);
        let cseq = header_text(&invite, HeaderName::CSeq);
        let number = response.header_named("RSeq").unwrap_or_default();
        let rack = format!("{} {cseq}", text(number));
        let lines = [("RAck", rack.as_str())];
        let content = Content::default().with(&lines);
        self.leg.send("PRACK", content).await
    }

    /// Returns the other end of the call as `Replaces` names it (RFC 3891 §3), percent-escaped for
    /// a URI.
    #[must_use]
    pub fn replaces(&self) -> String {
        let dialog = self.leg.call.dialog.lock();
        let tag = |value: &str| {
            NameAddr::parse(value.as_bytes())
                .ok()
                .and_then(|address| address.params.value("tag").map(text))
                .unwrap_or_default()
        };
        dialog.as_ref().map_or_else(String::new, |dialog| {
            format!(
                "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
                dialog.call_id.replace('@', "%40"),
                tag(&dialog.remote),
                tag(&dialog.local)
            )
        })
    }

    /// Sends a re-INVITE of one's own, acknowledges its 2xx and returns the final response.
    pub async fn reinvite_with(&mut self, content: Content<'_>) -> Result<Message, PhoneError> {
        self.leg.reinvite_with(content).await
    }

    /// Sends a request in the dialog (INFO, REFER, UPDATE) and returns the final response.
    pub async fn request(
        &mut self,
        method: &str,
        content: Content<'_>,
    ) -> Result<Message, PhoneError> {
        self.leg.send(method, content).await
    }

    /// Waits for a request of this method in the dialog; it is answered with 200 as soon as it
    /// arrives.
    pub async fn wait_request(&mut self, method: &str) -> Result<Message, PhoneError> {
        self.leg.wait_request(method).await
    }

    async fn next(&mut self, awaited: &str) -> Result<Message, PhoneError> {
        if let Some(response) = self.pending.pop_front() {
            return Ok(response);
        }
        let Leg {
            endpoint, patience, ..
        } = &self.leg;
        endpoint
            .wait(awaited, *patience, self.responses.recv())
            .await?
    }
}
