//! Calls of a stand-in: one that came in, one that goes out. Both ends of a phone and of Asterisk.

use std::time::Duration;

use crate::proto::sip::Message;
use crate::standin::error::PhoneError;

/// The default patience of every wait.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An offer and an answer that any peer takes: one audio stream, PCMA and PCMU.
#[must_use]
pub fn plain_sdp(ip: std::net::IpAddr) -> String {
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 8 0\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
    )
}

/// A call that came in. 100 has been sent.
#[derive(Debug)]
pub struct IncomingCall {
    /// The INVITE as it arrived.
    pub invite: Message,
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

impl IncomingCall {
    /// Sets the patience of the waits that follow (default [`PATIENCE`]).
    pub fn within(&mut self, _patience: Duration) -> &mut Self {
        todo!()
    }
    /// Sends 180 Ringing.
    pub async fn ring(&mut self) -> Result<(), PhoneError> {
        todo!()
    }
    /// Sends 200 with an SDP answer (retransmitted over UDP) and waits for the ACK.
    pub async fn answer(&mut self) -> Result<(), PhoneError> {
        todo!()
    }
    /// Sends this final status (3xx to 6xx) and waits for the ACK.
    pub async fn reject(&mut self, _status: u16) -> Result<(), PhoneError> {
        todo!()
    }
    /// Waits for the CANCEL. It is answered with 200, and the INVITE with 487, as soon as it
    /// arrives, whether or not somebody waits here.
    pub async fn wait_cancel(&mut self) -> Result<Cancelled, PhoneError> {
        todo!()
    }
    /// Sends BYE and returns the status of its final response.
    pub async fn hangup(&mut self) -> Result<u16, PhoneError> {
        todo!()
    }
    /// Waits for the BYE; it is answered with 200 as soon as it arrives.
    pub async fn wait_bye(&mut self) -> Result<Message, PhoneError> {
        todo!()
    }
    /// Sends a re-INVITE in the dialog, acknowledges its 2xx and returns the final status.
    pub async fn reinvite(&mut self) -> Result<u16, PhoneError> {
        todo!()
    }
    /// Returns the Call-ID.
    #[must_use]
    pub fn call_id(&self) -> String {
        todo!()
    }
}

/// A call that goes out.
#[derive(Debug)]
pub struct OutgoingCall {}

impl OutgoingCall {
    /// Sets the patience of the waits that follow (default [`PATIENCE`]).
    pub fn within(&mut self, _patience: Duration) -> &mut Self {
        todo!()
    }
    /// Waits for a provisional response above 100 and returns its status.
    pub async fn wait_ringing(&mut self) -> Result<u16, PhoneError> {
        todo!()
    }
    /// Waits for the 2xx and acknowledges it; another final response is `PhoneError::Refused`.
    pub async fn wait_answer(&mut self) -> Result<Answered, PhoneError> {
        todo!()
    }
    /// Waits for the final response, whatever it is; a 2xx is acknowledged.
    pub async fn wait_final(&mut self) -> Result<Message, PhoneError> {
        todo!()
    }
    /// Sends CANCEL with these Reason values and returns the INVITE's final status (487 if it
    /// worked).
    pub async fn cancel(&mut self, _reasons: &[&str]) -> Result<u16, PhoneError> {
        todo!()
    }
    /// Sends BYE and returns the status of its final response.
    pub async fn hangup(&mut self) -> Result<u16, PhoneError> {
        todo!()
    }
    /// Waits for the BYE; it is answered with 200 as soon as it arrives.
    pub async fn wait_bye(&mut self) -> Result<Message, PhoneError> {
        todo!()
    }
    /// Sends a re-INVITE in the dialog, acknowledges its 2xx and returns the final status.
    pub async fn reinvite(&mut self) -> Result<u16, PhoneError> {
        todo!()
    }
    /// Returns the Call-ID.
    #[must_use]
    pub fn call_id(&self) -> String {
        todo!()
    }
}
