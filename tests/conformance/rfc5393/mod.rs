//! RFC 5393: amplification by forking.

mod section_4_2;
mod section_5_3;
