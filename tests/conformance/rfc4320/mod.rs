//! RFC 4320: non-INVITE transactions.

mod section_4_2;
