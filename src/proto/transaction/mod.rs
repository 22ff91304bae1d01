//! Transactions (RFC 3261 §17, RFC 6026): one request and the responses to it, over one hop.
//!
//! [`Transactions`] is the table; `client.rs` and `server.rs` are its entries; each of the four
//! state machines has a file of its own and is one enum with its data in the variants. `timers.rs`
//! has the value of every letter, `follow_up.rs` writes the ACK and the CANCEL of an INVITE.
//!
//! Invariants: a transaction that is over is out of its table and has no timer armed; a machine
//! keeps only the bytes that it may have to send again.

mod client;
mod client_invite;
mod client_non_invite;
mod follow_up;
mod id;
mod key;
mod server;
mod server_invite;
mod server_non_invite;
mod table;
mod timers;

pub use id::{ClientId, ServerId, branch_number};
pub use server::response_flow;
pub use table::Transactions;

/// What a request is to the transaction layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A new server transaction: the core decides.
    New(ServerId),
    /// Nothing is left to do: a retransmission, answered again if there is an answer; or a request
    /// without a usable Via or CSeq, of which an event was made.
    Retransmission,
    /// An ACK that its INVITE transaction took.
    Acked,
    /// A CANCEL: its own new transaction, and the INVITE's that it matches (RFC 3261 §9.2).
    Cancel {
        /// The CANCEL's transaction.
        cancel: ServerId,
        /// The INVITE's, answered or not; `None`: there is none from this source.
        invite: Option<ServerId>,
    },
    /// An ACK that matches no transaction: of a 2xx, end to end (or stray).
    Ack,
    /// The table is full: refuse without state.
    Full,
}

/// What a client transaction tells its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// 1xx.
    Provisional,
    /// A final response; for INVITE also each further 2xx (RFC 6026 §8.4).
    Final,
    /// Nothing came in time: Timer B or F, or no final response within 64*T1 of the CANCEL.
    Timeout,
    /// It could not be sent.
    TransportError,
}
