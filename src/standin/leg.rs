//! Our end of a call, whoever began it: the requests in its dialog and the events of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::proto::sip::Message;
use crate::standin::call::plain_sdp;
use crate::standin::dialog::Dialog;
use crate::standin::draft::{Draft, label};
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

    pub(crate) async fn hangup(&self) -> Result<u16, PhoneError> {
        let (hop, bye) = self.request("BYE")?;
        let mut exchange = self.endpoint.transact(hop, bye.finish()).await?;
        let response = exchange.last(&self.endpoint, self.patience).await?;
        Ok(response.status().unwrap_or_default())
    }

    pub(crate) async fn reinvite(&self) -> Result<u16, PhoneError> {
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

    pub(crate) async fn wait_bye(&mut self) -> Result<Message, PhoneError> {
        let event = self
            .event("the BYE", |event| matches!(event, CallEvent::Bye(_)))
            .await?;
        let (CallEvent::Bye(bye) | CallEvent::Cancel(bye) | CallEvent::Reinvite(bye)) = event;
        Ok(bye)
    }

    pub(crate) async fn wait_reinvite(&mut self) -> Result<Message, PhoneError> {
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
