//! RFC 3261: SIP.

mod section_17_1_1;
mod section_17_1_2;
mod section_17_1_3;
mod section_17_1_4;
mod section_17_2_1;
mod section_17_2_2;
mod section_17_2_3;
mod section_18_2_2;
mod section_9_1;
mod section_9_2;
