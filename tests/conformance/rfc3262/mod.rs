//! RFC 3262: reliable provisional responses, passing through.

mod section_3;
