//! RFC 6026: the Accepted state of both INVITE transactions.

mod section_7_2;
mod section_8_4;
mod section_8_5;
mod section_8_7;
