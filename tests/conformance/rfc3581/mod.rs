//! RFC 3581: symmetric response routing.

mod section_4;
mod section_4_gateway;
