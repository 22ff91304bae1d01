//! Behaviour through `Gateway`, in virtual time: the main suite.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test"
)]

mod advisories;
mod calls;
mod dialogs;
mod early;
mod guard;
mod hold;
mod keep;
mod missed;
mod oversize;
mod pains;
mod peers;
mod providers;
mod races;
mod reflection;
mod registration;
mod resume;
mod rounds;
mod schedule;
mod shards;
mod sips;
mod smuggling;
mod surge;
mod verdicts;
mod wake;
mod world;
