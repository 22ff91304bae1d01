//! Registration: relaying REGISTER (RFC 3261 §10, RFC 3327), keeping bindings and their flows
//! (RFC 5626).

pub mod asked;
pub mod binding;
pub mod flow;
pub mod keep;
pub mod location;
pub mod moment;
pub mod offer;
pub mod outbound;
pub mod purr;
pub mod relay;
pub mod shape;
