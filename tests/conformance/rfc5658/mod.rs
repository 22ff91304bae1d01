//! RFC 5658: Record-Route for proxies with several addresses.

mod section_5;
