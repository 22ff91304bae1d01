//! RFC 3891: Replaces, passing through.

mod section_3;
