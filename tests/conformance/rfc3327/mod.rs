//! RFC 3327: the Path header.

mod section_5;
