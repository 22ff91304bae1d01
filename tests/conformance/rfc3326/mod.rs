//! RFC 3326: the Reason header.

mod section_2;
