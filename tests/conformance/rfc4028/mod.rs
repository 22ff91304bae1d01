//! RFC 4028: session timers, as a proxy that needs none of its own.

mod section_8;
