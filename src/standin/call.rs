//! Calls of a stand-in: one that came in, one that goes out. Both ends of a phone and of Asterisk.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::proto::sip::{HeaderName, Message};
use crate::standin::dialog::Dialog;
use crate::standin::draft::{Draft, header_text, label, value_texts};
use crate::standin::error::PhoneError;
use crate::standin::exchange::{Exchange, Login, authorize, refused, same_transaction};
use crate::standin::link::Peer;
use crate::standin::ua::{Call, CallEvent, CallKey, Endpoint, random_token};

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
        let leg = &self.leg;
        let contact = leg
            .endpoint
            .contact_uri(&leg.call.user, leg.far.transport, "");
        let ringing = Draft::response(&self.invite, leg.far.address, 180, &leg.call.key.1)
            .line("Contact", format!("<{contact}>"))
            .finish();
        leg.endpoint.respond(leg.far, &self.invite, ringing).await;
        Ok(())
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
        let (CallEvent::Cancel(cancel) | CallEvent::Bye(cancel) | CallEvent::Reinvite(cancel)) =
            event;
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

/// What an INVITE says.
#[derive(Clone, Debug)]
pub(crate) struct Invitation {
    /// Request-URI.
    pub(crate) target: String,
    /// Route values.
    pub(crate) routes: Vec<String>,
    /// From, without tag.
    pub(crate) from: String,
    /// To.
    pub(crate) to: String,
    /// The user part of our Contact.
    pub(crate) user: String,
    /// Where it goes.
    pub(crate) hop: Peer,
    /// The offer.
    pub(crate) sdp: String,
    /// Who answers challenges.
    pub(crate) login: Option<Login>,
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

/// Drives the INVITE of a call through its challenges.
struct Inviter {
    endpoint: Endpoint,
    invitation: Invitation,
    key: CallKey,
    invite: Arc<Mutex<Message>>,
    sender: mpsc::Sender<Result<Message, PhoneError>>,
}

impl Inviter {
    async fn run(self, exchange: Exchange) {
        if let Err(error) = self.drive(exchange).await {
            // dropped: the owner of the call is gone.
            self.sender.send(Err(error)).await.ok();
        }
    }

    async fn drive(&self, mut exchange: Exchange) -> Result<(), PhoneError> {
        let mut cseq = 1;
        while let Some(response) = exchange.recv().await {
            let response = response?;
            if let Some(line) = self.answer(&response, cseq) {
                cseq += 1;
                let draft = self
                    .invitation
                    .draft(&self.endpoint, &self.key, cseq, Some(line));
                exchange = self.endpoint.transact(self.invitation.hop, draft).await?;
                *self.invite.lock() = exchange.request.clone();
                continue;
            }
            // dropped: the owner of the call is gone.
            self.sender.send(Ok(response)).await.ok();
        }
        Ok(())
    }

    fn answer(&self, response: &Message, cseq: u32) -> Option<(&'static str, String)> {
        let login = self.invitation.login.as_ref().filter(|_| cseq < 3)?;
        let answer = authorize(response, login, "INVITE", &self.invitation.target)?;
        (cseq == 1 || answer.stale).then_some((answer.header, answer.value))
    }
}

impl Invitation {
    fn draft(
        &self,
        endpoint: &Endpoint,
        (call_id, tag): &CallKey,
        cseq: u32,
        authorization: Option<(&'static str, String)>,
    ) -> Bytes {
        let contact = endpoint.contact_uri(&self.user, self.hop.transport, "");
        Draft::request("INVITE", &self.target, &endpoint.via(self.hop.transport))
            .lines("Route", &self.routes)
            .line("From", format!("{};tag={tag}", self.from))
            .line("To", &self.to)
            .line("Call-ID", call_id)
            .line("CSeq", format!("{cseq} INVITE"))
            .line("Contact", format!("<{contact}>"))
            .lines_named(authorization)
            .line(
                "Allow",
                "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, MESSAGE",
            )
            .line("Supported", "replaces")
            .body("application/sdp", &self.sdp)
            .finish()
    }
}

/// Our end of a call, whoever began it.
#[derive(Debug)]
struct Leg {
    endpoint: Endpoint,
    call: Arc<Call>,
    /// Where the INVITE came from or went to.
    far: Peer,
    events: mpsc::Receiver<CallEvent>,
    /// Events that nobody has asked for yet.
    past: VecDeque<CallEvent>,
    patience: Duration,
}

impl Leg {
    const fn new(
        endpoint: Endpoint,
        call: Arc<Call>,
        far: Peer,
        events: mpsc::Receiver<CallEvent>,
        patience: Duration,
    ) -> Self {
        Self {
            endpoint,
            call,
            far,
            events,
            past: VecDeque::new(),
            patience,
        }
    }

    async fn accepted(&self, invite: &Message, response: &Message) -> Result<(), PhoneError> {
        let dialog = Dialog::calling(invite, response);
        *self.call.dialog.lock() = Some(dialog.clone());
        self.acknowledge(&dialog, response).await
    }

    async fn acknowledge(&self, dialog: &Dialog, response: &Message) -> Result<(), PhoneError> {
        let hop = self.endpoint.hop(&dialog.next_hop(), self.far);
        let cseq = response.cseq().map_or(0, |cseq| cseq.number);
        let ack = dialog.ack(&self.endpoint.via(hop.transport), cseq).finish();
        self.endpoint.remember_ack(response, hop, ack.clone());
        Ok(self.endpoint.send(hop, &ack, false).await?)
    }

    fn request(&self, method: &str) -> Result<(Peer, Draft), PhoneError> {
        let mut dialog = self.call.dialog.lock();
        let Some(dialog) = dialog.as_mut() else {
            return Err(PhoneError::Instead {
                awaited: format!("a dialog to send {method} in"),
                instead: "no 2xx".to_owned(),
            });
        };
        let hop = self.endpoint.hop(&dialog.next_hop(), self.far);
        Ok((
            hop,
            dialog.request(method, &self.endpoint.via(hop.transport)),
        ))
    }

    async fn hangup(&self) -> Result<u16, PhoneError> {
        let (hop, bye) = self.request("BYE")?;
        let mut exchange = self.endpoint.transact(hop, bye.finish()).await?;
        let response = exchange.last(&self.endpoint, self.patience).await?;
        Ok(response.status().unwrap_or_default())
    }

    async fn reinvite(&self) -> Result<u16, PhoneError> {
        let (hop, draft) = self.request("INVITE")?;
        let contact = self
            .endpoint
            .contact_uri(&self.call.user, hop.transport, "");
        let sdp = plain_sdp(self.endpoint.local_addr().ip());
        let invite = draft
            .line("Contact", format!("<{contact}>"))
            .body("application/sdp", &sdp)
            .finish();
        let mut exchange = self.endpoint.transact(hop, invite).await?;
        let response = exchange.last(&self.endpoint, self.patience).await?;
        let status = response.status().unwrap_or_default();
        if status < 300 {
            let dialog = {
                let mut dialog = self.call.dialog.lock();
                if let Some(dialog) = dialog.as_mut() {
                    dialog.refresh_target(&response);
                }
                dialog.clone()
            };
            if let Some(dialog) = dialog {
                self.acknowledge(&dialog, &response).await?;
            }
        }
        Ok(status)
    }

    async fn wait_bye(&mut self) -> Result<Message, PhoneError> {
        let event = self
            .event("the BYE", |event| matches!(event, CallEvent::Bye(_)))
            .await?;
        let (CallEvent::Bye(bye) | CallEvent::Cancel(bye) | CallEvent::Reinvite(bye)) = event;
        Ok(bye)
    }

    async fn wait_reinvite(&mut self) -> Result<Message, PhoneError> {
        let event = self
            .event("a re-INVITE", |event| {
                matches!(event, CallEvent::Reinvite(_))
            })
            .await?;
        let (CallEvent::Reinvite(invite) | CallEvent::Bye(invite) | CallEvent::Cancel(invite)) =
            event;
        Ok(invite)
    }

    /// Waits for an event; the end of the call rules out any other.
    async fn event(
        &mut self,
        awaited: &str,
        wanted: impl Fn(&CallEvent) -> bool,
    ) -> Result<CallEvent, PhoneError> {
        let past = self.past.iter().position(&wanted);
        if let Some(event) = past.and_then(|index| self.past.remove(index)) {
            return Ok(event);
        }
        loop {
            let next = self.events.recv();
            let event = self.endpoint.wait(awaited, self.patience, next).await?;
            if wanted(&event) {
                return Ok(event);
            }
            let ended = match &event {
                CallEvent::Bye(message) | CallEvent::Cancel(message) => Some(label(message)),
                CallEvent::Reinvite(_) => None,
            };
            self.past.push_back(event);
            if let Some(instead) = ended {
                return Err(PhoneError::Instead {
                    awaited: awaited.to_owned(),
                    instead,
                });
            }
        }
    }
}
