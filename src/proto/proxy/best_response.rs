//! Choosing the best response (RFC 3261 §16.7 steps 5 to 8).

use bytes::Bytes;

use crate::proto::reject::Reject;
use crate::proto::sip::{Edit, HeaderName, Message};

/// The best final response that a context has so far.
#[derive(Clone, Debug)]
pub(super) enum Best {
    /// A device or an upstream said it; without our Via.
    Received {
        /// Its status.
        status: u16,
        /// The status that it counts as among others.
        weight: u16,
        /// The response.
        response: Bytes,
    },
    /// We say it.
    Local(Reject),
}

impl Best {
    /// The status that it counts as among others.
    const fn weight(&self) -> u16 {
        match self {
            Self::Received { weight, .. } => *weight,
            Self::Local(reject) => reject.status().0,
        }
    }

    /// Its status.
    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::Received { status, .. } => *status,
            Self::Local(reject) => reject.status().0,
        }
    }
}

/// Keeps the better of two; of equals the first that came, with the challenges of the other.
pub(super) fn better(old: Option<Best>, new: Best) -> Best {
    match (old, new) {
        (
            Some(Best::Received {
                status,
                weight,
                response,
            }),
            Best::Received {
                status: other_status,
                response: other,
                ..
            },
        ) if is_challenge(status) && is_challenge(other_status) => Best::Received {
            status,
            weight,
            response: with_challenges(response, &other),
        },
        (old, new) => choose(old, new),
    }
}

const fn is_challenge(status: u16) -> bool {
    matches!(status, 401 | 407)
}

/// §16.7 step 7: the caller has to answer all challenges at once.
fn with_challenges(response: Bytes, other: &Bytes) -> Bytes {
    let (Ok(kept), Ok(other)) = (
        Message::parse(response.clone()),
        Message::parse(other.clone()),
    ) else {
        return response;
    };
    let mut edit = Edit::new(&kept);
    for line in other.headers() {
        let name = line.name;
        if matches!(
            name,
            HeaderName::WwwAuthenticate | HeaderName::ProxyAuthenticate
        ) {
            edit.append(name, line.value.to_vec());
        }
    }
    edit.finish()
}

fn choose(old: Option<Best>, new: Best) -> Best {
    match old {
        Some(old) if rank(old.weight()) <= rank(new.weight()) => old,
        Some(_) | None => new,
    }
}

/// Lower is better: 2xx, 6xx, then the lowest class; within 4xx those that let the caller mend its
/// request, then what a person decided, then what only says that nobody was there.
const fn rank(status: u16) -> u16 {
    match status {
        200..=299 => 0,
        600..=699 => 1,
        300..=399 => 2,
        401 | 407 | 415 | 420 | 484 => 3,
        408 => 7,
        480 => 6,
        487 => 5,
        400..=499 => 4,
        503 => 9,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best_of(statuses: &[u16]) -> u16 {
        let received = |status: u16| Best::Received {
            status,
            weight: status,
            response: Bytes::from_static(b""),
        };
        statuses
            .iter()
            .fold(None, |best, status| Some(better(best, received(*status))))
            .map_or(0, |best| best.status())
    }

    #[test]
    fn the_order_of_the_rfc_decides() {
        assert_eq!(best_of(&[404, 603, 302]), 603);
        assert_eq!(best_of(&[503, 404]), 404);
        assert_eq!(best_of(&[404, 302]), 302);
        assert_eq!(best_of(&[486, 407]), 407);
        assert_eq!(best_of(&[480, 486]), 486);
        assert_eq!(best_of(&[408, 480]), 480);
        assert_eq!(best_of(&[503, 500]), 500);
        assert_eq!(best_of(&[487, 486]), 486);
        assert_eq!(best_of(&[404, 410]), 404);
    }
}
