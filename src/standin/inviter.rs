//! The INVITE of a call that goes out, through its challenges (RFC 3261 §22).

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::proto::sip::Message;
use crate::standin::draft::Draft;
use crate::standin::error::PhoneError;
use crate::standin::exchange::{Exchange, Login, authorize};
use crate::standin::inbound::ALLOW;
use crate::standin::link::Peer;
use crate::standin::ua::{CallKey, Endpoint};

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
    /// Further header lines.
    pub(crate) lines: Vec<(String, String)>,
    /// The offer.
    pub(crate) sdp: String,
    /// Who answers challenges.
    pub(crate) login: Option<Login>,
}

/// Drives the INVITE of a call through its challenges.
pub(crate) struct Inviter {
    pub(crate) endpoint: Endpoint,
    pub(crate) invitation: Invitation,
    pub(crate) key: CallKey,
    pub(crate) invite: Arc<Mutex<Message>>,
    pub(crate) sender: mpsc::Sender<Result<Message, PhoneError>>,
}

impl Inviter {
    pub(crate) async fn run(self, exchange: Exchange) {
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
    pub(crate) fn draft(
        &self,
        endpoint: &Endpoint,
        (call_id, tag): &CallKey,
        cseq: u32,
        authorization: Option<(&'static str, String)>,
    ) -> Bytes {
        let contact = endpoint.dialog_contact(&self.user, self.hop.transport);
        let lines = self.lines.iter();
        let draft = Draft::request("INVITE", &self.target, &endpoint.via(self.hop.transport))
            .lines("Route", &self.routes)
            .line("From", format!("{};tag={tag}", self.from))
            .line("To", &self.to)
            .line("Call-ID", call_id)
            .line("CSeq", format!("{cseq} INVITE"))
            .line("Contact", format!("<{contact}>"))
            .lines_named(authorization)
            .line("Allow", ALLOW);
        lines
            .fold(draft, |draft, (name, value)| draft.line(name, value))
            .line("Supported", "replaces")
            .body("application/sdp", &self.sdp)
            .finish()
    }
}
