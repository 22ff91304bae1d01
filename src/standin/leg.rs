//! Our end of a call, whoever began it: the requests in its dialog and the events of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::proto::sip::Message;
use crate::standin::call::plain_sdp;
use crate::standin::dialog::Dialog;
use crate::standin::draft::{Content, Draft, label};
use crate::standin::error::PhoneError;
use crate::standin::link::Peer;
use crate::standin::ua::{Call, CallEvent, Endpoint};

/// Our end of a call, whoever began it.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) endpoint: Endpoint,
    pub(crate) call: Arc<Call>,
    /// Where the INVITE came from or went to.
    pub(crate) far: Peer,
    events: mpsc::Receiver<CallEvent>,
    /// Events that nobody has asked for yet.
    past: VecDeque<CallEvent>,
    pub(crate) patience: Duration,
}

impl Leg {
    pub(crate) const fn new(
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

    pub(crate) async fn accepted(
        &self,
        invite: &Message,
        response: &Message,
    ) -> Result<(), PhoneError> {
        let mut dialog = Dialog::calling(invite, response);
        {
            let mut known = self.call.dialog.lock();
            // A PRACK has counted on.
            let used = known.as_ref().map_or(0, |early| early.cseq);
            dialog.cseq = dialog.cseq.max(used);
            *known = Some(dialog.clone());
        }
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

    pub(crate) async fn hangup(&self) -> Result<u16, PhoneError> {
        let response = self.send("BYE", Content::default()).await?;
        Ok(response.status().unwrap_or_default())
    }

    /// Sends any request in the dialog and returns its final response.
    pub(crate) async fn send(
        &self,
        method: &str,
        content: Content<'_>,
    ) -> Result<Message, PhoneError> {
        let (hop, draft) = self.request(method)?;
        let draft = match method {
            "BYE" | "INFO" | "PRACK" => draft,
            // RFC 3261 §12.2.1.1 and the RFCs of the others: a target to answer to.
            _ => draft.line("Contact", self.contact(hop)),
        };
        let request = content.write(draft).finish();
        let mut exchange = self.endpoint.transact(hop, request).await?;
        exchange.last(&self.endpoint, self.patience).await
    }

    /// Begins the early dialog of a provisional response (RFC 3261 §12.1.2).
    pub(crate) fn begin(&self, invite: &Message, response: &Message) {
        let mut dialog = self.call.dialog.lock();
        if dialog.is_none() {
            *dialog = Some(Dialog::calling(invite, response));
        }
    }

    pub(crate) async fn reinvite(&self) -> Result<u16, PhoneError> {
        let sdp = plain_sdp(self.endpoint.local_addr().ip());
        let response = self.reinvite_with(Content::sdp(&sdp)).await?;
        Ok(response.status().unwrap_or_default())
    }

    pub(crate) async fn reinvite_with(&self, content: Content<'_>) -> Result<Message, PhoneError> {
        let response = self.send("INVITE", content).await?;
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
        Ok(response)
    }

    fn contact(&self, hop: Peer) -> String {
        let uri = self.endpoint.dialog_contact(&self.call.user, hop.transport);
        format!("<{uri}>")
    }

    pub(crate) async fn wait_bye(&mut self) -> Result<Message, PhoneError> {
        let event = self
            .event("the BYE", |event| matches!(event, CallEvent::Bye(_)))
            .await?;
        Ok(event.message())
    }

    pub(crate) async fn wait_reinvite(&mut self) -> Result<Message, PhoneError> {
        let event = self
            .event("a re-INVITE", |event| {
                matches!(event, CallEvent::Reinvite(_))
            })
            .await?;
        Ok(event.message())
    }

    /// Waits for a request of this method; it was answered with 200 as soon as it arrived.
    pub(crate) async fn wait_request(&mut self, method: &str) -> Result<Message, PhoneError> {
        let is_it = |event: &CallEvent| {
            let CallEvent::Request(request) = event else {
                return false;
            };
            request
                .method()
                .is_some_and(|this| this.as_bytes() == method.as_bytes())
        };
        let event = self.event(&format!("the {method}"), is_it).await?;
        Ok(event.message())
    }

    /// Waits for an event; the end of the call rules out any other.
    pub(crate) async fn event(
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
                CallEvent::Reinvite(_) | CallEvent::Request(_) => None,
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
