//! RFC 8599 §6.2.1: the PURR that a device is given in the 2xx to its REGISTER.

use rouse::proto::sip::HeaderName;

use super::{FCM, INSTANCE, purr, registered};
use crate::scene::values;
use crate::world::{APNS, World};

/// "the proxy MUST insert a 'sip.pnspurr' feature-capability indicator", beside `+sip.pns`, in the
/// response alone.
#[test]
fn every_2xx_has_the_latest_purr_beside_its_service() {
    let mut world = World::new();
    for params in [APNS, FCM, FCM] {
        let (relayed, ok) = registered(&mut world, params, INSTANCE, 3600);
        assert!(!relayed.text().contains("pnspurr"));
        let caps = values(&ok, HeaderName::FeatureCaps);
        let [caps] = caps.as_slice() else {
            panic!("{caps:?}")
        };
        assert!(caps.starts_with("*;+sip.pns=\"") && caps.contains(";+sip.pnspurr=\""));
    }
    let (_, ok) = registered(&mut world, "", INSTANCE, 3600);
    assert!(!ok.text().contains("pnspurr"));
}

/// "unforgeable, anonymous, and unlinkable": 384 bits of which at least 128 are random, without a
/// part that two of one device share.
#[test]
fn a_purr_is_large_and_two_of_one_device_share_nothing() {
    let mut world = World::new();
    let mut purrs = Vec::new();
    for _ in 0..20 {
        let (_, ok) = registered(&mut world, FCM, INSTANCE, 3600);
        purrs.push(purr(&ok));
    }
    for (at, one) in purrs.iter().enumerate() {
        assert_eq!(one.len() * 6, 384);
        for other in purrs.iter().skip(at + 1) {
            let same = one.bytes().zip(other.bytes()).filter(|(a, b)| a == b);
            assert!(same.count() < 10, "{one} {other}");
        }
    }
}
