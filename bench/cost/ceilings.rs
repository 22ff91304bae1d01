//! What one unit of each work may cost: a little above what it does cost. Lower them when that falls.

use crate::play::Crowd;

/// Work, with whom, and its instructions in the profile `profiling`.
pub(crate) const INSTRUCTIONS: [(&str, Crowd, u64); 4] = [
    ("call", TEN_THOUSAND, 300_000),
    ("register", TEN_THOUSAND, 185_000),
    ("refresh", TEN_THOUSAND, 180_000),
    ("wake", TEN_THOUSAND, 610_000),
];

const TEN_THOUSAND: Crowd = Crowd {
    agents: 10_000,
    flows: 1000,
};
