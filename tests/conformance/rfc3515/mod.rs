//! RFC 3515: REFER, passing through.

mod section_2_4;
