//! RFC 5626: outbound, as an edge proxy, and as the registrar that the phone takes us for.
//!
//! Not claimed: `ob`, and 430 to the registrar's side for a flow that is gone while its device can
//! be woken or is about to come back: the request then waits for the device.

mod section_5_2;
mod section_5_3;
mod section_6;
