//! Registration: relaying REGISTER (RFC 3261 §10), keeping bindings, flows (RFC 5626), Path
//! (RFC 3327).
pub mod binding;
