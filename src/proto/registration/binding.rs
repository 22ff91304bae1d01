//! A binding: one device of an agent, and how it is reached (RFC 3261 §10, RFC 5626 §6).

use bytes::Bytes;

use crate::proto::push::params::PushParams;
use crate::proto::{BindingKey, Flow};

/// A binding as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBinding {
    /// Its name.
    pub key: BindingKey,
    /// The agent's user part, unescaped.
    pub user: Box<str>,
    /// The agent's domain; empty for the gateway's own addresses.
    pub domain: Box<str>,
    /// The upstream group's name.
    pub upstream: Box<str>,
    /// The value of the Contact header as the device sent it, without `expires`.
    pub contact: Bytes,
    /// `+sip.instance`, unquoted.
    pub instance: Option<Box<str>>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// How to wake it.
    pub push: Option<PushParams>,
    /// The flow of its last REGISTER: a datagram flow may still work after a restart.
    pub flow: Flow,
    /// The Call-ID of its last REGISTER.
    pub call_id: Box<str>,
    /// When it ends, seconds since the Unix epoch.
    pub expires_unix: u64,
    /// When it last registered, milliseconds since the Unix epoch.
    pub registered_ms: u64,
}
