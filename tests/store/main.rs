//! The store on real disks: what it acknowledged is there after kill -9, torn writes, full and
//! read-only disks; what it holds is sealed.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::explicit_write,
    reason = "a test that fails shall stop where it fails, and measures real time"
)]

mod support;

mod contents;
mod crash;
mod damage;
mod refusal;
