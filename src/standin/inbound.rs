//! What a stand-in does with a message that arrives.
//!
//! Absorbs retransmissions, answers what needs no decision (OPTIONS, NOTIFY, BYE, CANCEL,
//! re-INVITE) at once, hands responses to their transactions and new calls to their owner.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::proto::sip::{HeaderName, Message, Uri};
use crate::standin::call::{IncomingCall, plain_sdp};
use crate::standin::dialog::Dialog;
use crate::standin::draft::{Draft, header_text, text};
use crate::standin::link::Peer;
use crate::standin::ua::{
    Call, CallEvent, Endpoint, Fresh, ack_key, client_key, random_token, server_key,
};

/// The methods that a stand-in takes.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, MESSAGE";

impl Endpoint {
    pub(crate) async fn handle_response(&self, response: Message) {
        let known = {
            let state = self.state();
            ack_key(&response).and_then(|key| state.acks.get(&key).cloned())
        };
        self.note_heard(&response, known.is_some());
        if let Some((to, ack)) = known {
            // dropped: the far side repeats its final response, and we our ACK.
            self.send(to, &ack, true).await.ok();
            return;
        }
        let sender = {
            let state = self.state();
            client_key(&response).and_then(|key| state.clients.get(&key).cloned())
        };
        if let Some(sender) = sender {
            // dropped: more responses than anybody reads.
            sender.try_send(response).ok();
        }
    }

    pub(crate) async fn handle_request(&self, from: Peer, request: Message) {
        let Some(key) = server_key(&request) else {
            return;
        };
        let method = key.2.clone();
        if method == b"ACK" {
            self.note_heard(&request, false);
            self.handle_ack(&request);
            return;
        }
        let known = self.state().servers.get(&key).cloned();
        self.note_heard(&request, known.is_some());
        if let Some(answer) = known {
            if let Some(answer) = answer {
                // dropped: as for a first answer.
                self.send(from, &answer, true).await.ok();
            }
            return;
        }
        self.remember_request(key, &request);
        let in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
        match method.as_slice() {
            b"CANCEL" => self.handle_cancel(from, request).await,
            _ if in_dialog => self.handle_in_dialog(from, request).await,
            b"INVITE" => self.handle_invite(from, request).await,
            b"REGISTER" if self.setup().registrar => {
                self.hand_on(Fresh::Register(from, request));
            }
            b"REGISTER" => self.respond_plainly(from, &request, 405).await,
            _ => self.respond_plainly(from, &request, 200).await,
        }
    }

    fn handle_ack(&self, ack: &Message) {
        let Some(call) = self.call_of(ack) else {
            return;
        };
        let cseq = ack.cseq().map_or(0, |cseq| cseq.number);
        call.acked.send_replace(Some(cseq));
    }

    async fn handle_cancel(&self, from: Peer, cancel: Message) {
        let call = server_key(&cancel).and_then(|(branch, cseq, _)| {
            let state = self.state();
            let key = state.invites.get(&(branch, cseq, b"INVITE".to_vec()))?;
            state.calls.get(key).cloned()
        });
        let Some(call) = call else {
            self.respond_plainly(from, &cancel, 481).await;
            return;
        };
        let ok = Draft::response(&cancel, from.address, 200, &call.key.1);
        self.respond(from, &cancel, ok.finish()).await;
        let Some((source, invite)) = &call.invite else {
            return;
        };
        if call.is_final.swap(true, Ordering::SeqCst) {
            return;
        }
        let terminated = Draft::response(invite, source.address, 487, &call.key.1).finish();
        self.respond_until_ack(&call, *source, invite, terminated)
            .await;
        call.tell(CallEvent::Cancel(cancel));
    }

    async fn handle_in_dialog(&self, from: Peer, request: Message) {
        let Some(call) = self.call_of(&request) else {
            self.respond_plainly(from, &request, 481).await;
            return;
        };
        let method = request.method().map(|method| method.as_bytes().to_vec());
        match method.as_deref() {
            Some(b"BYE") => {
                self.respond_plainly(from, &request, 200).await;
                call.tell(CallEvent::Bye(request));
            }
            Some(b"INVITE") => {
                if let Some(dialog) = call.dialog.lock().as_mut() {
                    dialog.refresh_target(&request);
                }
                let ok = self.acceptance(&request, from, &call);
                self.respond_until_ack(&call, from, &request, ok).await;
                call.tell(CallEvent::Reinvite(request));
            }
            Some(_) | None => {
                self.respond_plainly(from, &request, 200).await;
                call.tell(CallEvent::Request(request));
            }
        }
    }

    async fn handle_invite(&self, from: Peer, invite: Message) {
        self.state().invites_seen += 1;
        if self.is_merged(&invite) {
            self.respond_plainly(from, &invite, 482).await;
            return;
        }
        let tag = random_token();
        let call_id = header_text(&invite, HeaderName::CallId);
        let user = invite
            .request_uri()
            .and_then(|uri| Uri::parse(uri).ok()?.user.map(text))
            .unwrap_or_default();
        let trying = Draft::response(&invite, from.address, 100, &tag).finish();
        let key = (call_id, tag);
        let (call, events) = self.add_call(key.clone(), &user, Some((from, invite.clone())));
        *call.dialog.lock() = Some(Dialog::called(&invite, &key.1));
        if let Some(server) = server_key(&invite) {
            self.state().invites.insert(server, key);
        }
        self.respond(from, &invite, trying).await;
        let incoming = IncomingCall::new(self.clone(), call, from, invite, events);
        self.hand_on(Fresh::Call(Box::new(incoming)));
    }

    /// Writes a 200 to an INVITE, with an SDP answer.
    pub(crate) fn acceptance(&self, invite: &Message, from: Peer, call: &Call) -> Bytes {
        let contact = self.dialog_contact(&call.user, from.transport);
        Draft::response(invite, from.address, 200, &call.key.1)
            .line("Contact", format!("<{contact}>"))
            .line("Allow", ALLOW)
            .body("application/sdp", &plain_sdp(self.local_addr().ip()))
            .finish()
    }

    async fn respond_plainly(&self, from: Peer, request: &Message, status: u16) {
        let response = Draft::response(request, from.address, status, &random_token())
            .line("Allow", ALLOW)
            .finish();
        self.respond(from, request, response).await;
    }

    fn is_merged(&self, invite: &Message) -> bool {
        let tag = invite.from().ok().and_then(|from| from.tag());
        let key = (
            invite.call_id().unwrap_or_default().to_vec(),
            tag.unwrap_or_default().to_vec(),
            invite.cseq().map_or(0, |cseq| cseq.number),
        );
        let mut state = self.state();
        let merged = state.merged.get(&key).is_some();
        state.merged.insert(key, ());
        merged
    }

    fn call_of(&self, request: &Message) -> Option<Arc<Call>> {
        let to = request.to().ok()?;
        let key = (header_text(request, HeaderName::CallId), text(to.tag()?));
        self.state().calls.get(&key).cloned()
    }

    fn hand_on(&self, fresh: Fresh) {
        let sender = self.state().fresh.clone();
        if let Some(sender) = sender {
            // dropped: 64 new calls that nobody took.
            sender.try_send(fresh).ok();
        }
    }
}
