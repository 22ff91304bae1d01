//! Outbound of one REGISTER (RFC 5626 §6): whether we do for the phone what its option asks.
//!
//! The upstream sees one Contact of ours, so the flows of an instance are our business, not its.
//! Where it sees the phone's own Contact (`contact = "path"`) it is the registrar who decides.

use crate::proto::Transport;
use crate::proto::registration::relay::DeviceAsk;
use crate::proto::reject::Reject;
use crate::proto::settings::ContactMode;
use crate::proto::sip::{Edit, HeaderName, Message, NameAddr};

/// How often a phone shows that a flow lives, in seconds (RFC 5626 §4.4): what routers forget a
/// quiet datagram flow after, and a quiet connection.
const DATAGRAM_TIMER: u32 = 30;
const STREAM_TIMER: u32 = 120;
/// The option tag.
const OUTBOUND: &str = "outbound";

/// Whether outbound is applied to a REGISTER of these devices.
///
/// # Errors
/// The refusal: several Contacts beside a reg-id, or a hop before us that does not keep flows.
pub(super) fn applies(
    request: &Message,
    devices: &[DeviceAsk],
    mode: ContactMode,
) -> Result<bool, Reject> {
    let adds = || devices.iter().filter(|device| device.expires > 0);
    if !adds().any(|device| device.reg_id.is_some()) {
        return Ok(false);
    }
    // A reg-id names one flow, and a flow carries one Contact (RFC 5626 §6).
    if adds().count() > 1 {
        return Err(Reject::Malformed);
    }
    let is_asked = request.lists(HeaderName::Supported, OUTBOUND)
        || request.lists(HeaderName::Require, OUTBOUND);
    if !is_asked {
        return Ok(false);
    }
    match mode {
        ContactMode::Path => Ok(false),
        ContactMode::Agent | ContactMode::Device => {
            if request.values(HeaderName::Via).nth(1).is_none() {
                return Ok(true);
            }
            // Somebody stands between the phone and us: its flow ends there (RFC 5626 §6).
            let first = request.values(HeaderName::Path).last();
            if first.is_some_and(keeps_flows) {
                Ok(false)
            } else {
                Err(Reject::NoOutbound)
            }
        }
    }
}

/// Takes the option out of what the registrar must understand: it is we who do.
pub fn strip_require(edit: &mut Edit<'_>, request: &Message) {
    if !request.lists(HeaderName::Require, OUTBOUND) {
        return;
    }
    edit.remove(HeaderName::Require);
    for value in request.values(HeaderName::Require) {
        if !value.eq_ignore_ascii_case(OUTBOUND.as_bytes()) {
            edit.append(HeaderName::Require, value);
        }
    }
}

/// Says in a 2xx that outbound was applied, and how often the flow is to be shown alive.
pub fn promise(edit: &mut Edit<'_>, transport: Transport) {
    let timer = if transport.is_reliable() {
        STREAM_TIMER
    } else {
        DATAGRAM_TIMER
    };
    edit.append(HeaderName::Require, OUTBOUND);
    edit.replace(HeaderName::FlowTimer, timer.to_string());
}

/// Whether a Path value says that its proxy keeps the phone's flow.
fn keeps_flows(path: &[u8]) -> bool {
    let address = NameAddr::parse(path).ok();
    let uri = address.and_then(|address| address.parse_uri().ok());
    uri.is_some_and(|uri| uri.params.get("ob").is_some())
}
