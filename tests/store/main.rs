//! The store on real disks: what it acknowledged is there after kill -9, torn writes, full and
//! read-only disks; what it holds is sealed.

#![expect(
    clippy::unwrap_used,
    reason = "a test that fails shall stop where it fails"
)]

mod support;

mod contents;
