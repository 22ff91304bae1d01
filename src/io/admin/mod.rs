//! The operator's API and page: its own listener, JSON over HTTP/1.1 (RFC 9110), problems as
//! RFC 9457 has them, events as a stream.
//!
//! `api` and `watch` have the routes, `view` the shapes of what they say, `operator` what is asked of the
//! gateway, `guard` who may ask and how often, `problem` what is said when it goes wrong, `server`
//! the listener, `client` the other end for the command line, `page` the files of the page. Invariants: without a token only a loopback address
//! is listened on; every connection, body, stream and wait has a bound.

mod api;
mod client;
mod events;
mod guard;
mod operator;
mod page;
mod problem;
mod server;
pub mod view;
mod watch;

pub use api::openapi;
pub use client::{Client, ClientError, Events, Pieces};
pub use operator::{Later, Operator, Unable};
pub use server::{Admin, AdminError, Settings, Token};
