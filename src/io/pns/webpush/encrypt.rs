//! Encryption of a push for the browser that subscribed (RFC 8291), in the `aes128gcm` coding
//! (RFC 8188): one record, a new key pair and salt for each push.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use rand::Rng;

/// Every push service takes a body of this size (RFC 8030 §7.2).
const BODY_LIMIT: usize = 4096;
/// Salt, record size, length of the key's name, and the key (RFC 8188 §2.1).
const HEADER: usize = 16 + 4 + 1 + POINT;
/// An uncompressed point on P-256.
const POINT: usize = 65;
/// The delimiter of the last record and the authentication tag.
const OVERHEAD: usize = 1 + 16;
/// The longest plaintext.
pub(super) const PLAINTEXT_LIMIT: usize = BODY_LIMIT - HEADER - OVERHEAD;
/// Delimits the plaintext of the last record (RFC 8188 §2).
const LAST: u8 = 2;

/// The keys of a subscription: `P256DH.AUTH` in base64url.
pub(super) struct Subscriber {
    public: Vec<u8>,
    secret: Vec<u8>,
}

impl Subscriber {
    /// Reads the keys.
    pub(super) fn read(keys: &str) -> Option<Self> {
        let (public, secret) = keys.split_once('.')?;
        let (public, secret) = (BASE64.decode(public).ok()?, BASE64.decode(secret).ok()?);
        (public.len() == POINT && secret.len() == 16).then_some(Self { public, secret })
    }

    /// Encrypts a plaintext of at most [`PLAINTEXT_LIMIT`] bytes.
    pub(super) fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut salt = [0; 16];
        rand::rng().fill_bytes(&mut salt);
        self.encrypt_as(plaintext, &PrivateKey::generate(&ECDH_P256)?, salt)
    }

    /// Encrypts with a key pair and a salt of the caller's.
    fn encrypt_as(
        &self,
        plaintext: &[u8],
        ours: &PrivateKey,
        salt: [u8; 16],
    ) -> Result<Vec<u8>, Unspecified> {
        let our_public = ours.compute_public_key()?;
        let theirs = UnparsedPublicKey::new(&ECDH_P256, &self.public);
        // RFC 8291 §3.4.
        let shared = Salt::new(HKDF_SHA256, &self.secret);
        let prk = agreement::agree(ours, theirs, Unspecified, |ecdh| Ok(shared.extract(ecdh)))?;
        let info = [b"WebPush: info\0", &*self.public, our_public.as_ref()];
        let prk = Salt::new(HKDF_SHA256, &salt).extract(&derive::<32>(&prk, &info)?);
        let key = derive::<16>(&prk, &[b"Content-Encoding: aes128gcm\0"])?;
        let nonce = derive::<12>(&prk, &[b"Content-Encoding: nonce\0"])?;

        let mut record = Vec::with_capacity(plaintext.len() + OVERHEAD);
        record.extend_from_slice(plaintext);
        record.push(LAST);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record)?;

        let mut body = Vec::with_capacity(HEADER + record.len());
        body.extend_from_slice(&salt);
        body.extend_from_slice(&u32::try_from(BODY_LIMIT).unwrap_or(u32::MAX).to_be_bytes());
        body.push(u8::try_from(POINT).unwrap_or(u8::MAX));
        body.extend_from_slice(our_public.as_ref());
        body.append(&mut record);
        Ok(body)
    }
}

/// A length of key material.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<const N: usize>(prk: &Prk, info: &[&[u8]]) -> Result<[u8; N], Unspecified> {
    let mut key = [0; N];
    prk.expand(info, Length(N))?.fill(&mut key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8291 appendix A: its keys, its salt, its ciphertext.
    #[test]
    fn the_example_of_rfc_8291_is_reproduced() {
        let keys = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SR\
                    pkNtoIAiw4.BTBZMqHH6r4Tts7J_aSIgg";
        let subscriber = Subscriber::read(keys).unwrap();
        let ours = BASE64.decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let ours = PrivateKey::from_private_key(&ECDH_P256, &ours.unwrap()).unwrap();
        let salt = BASE64.decode("DGv6ra1nlYgDCS1FRnbzlw").unwrap();
        let body = subscriber
            .encrypt_as(
                b"When I grow up, I want to be a watermelon",
                &ours,
                salt.try_into().unwrap(),
            )
            .unwrap();
        assert_eq!(
            BASE64.encode(body),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLoc\
             InmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLV\
             WGNWQexSgSxsj_Qulcy4a-fN"
        );
    }

    #[test]
    fn a_push_is_never_encrypted_twice_alike_and_never_too_long() {
        let key = PrivateKey::generate(&ECDH_P256).unwrap();
        let public = key.compute_public_key().unwrap();
        let keys = format!("{}.{}", BASE64.encode(public), BASE64.encode([7; 16]));
        let subscriber = Subscriber::read(&keys).unwrap();
        let longest = vec![b'x'; PLAINTEXT_LIMIT];
        let (one, other) = (subscriber.encrypt(&longest), subscriber.encrypt(&longest));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.len(), BODY_LIMIT);
        assert_ne!(one[..16], other[..16], "the salt");
        assert_ne!(one[21..86], other[21..86], "the key");
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let point = BASE64.encode([4; 65]);
        for keys in ["", ".", "a.b", &point, &format!("{point}.AAAA")] {
            assert!(Subscriber::read(keys).is_none(), "{keys}");
        }
        // A point that is not on the curve.
        let keys = format!("{point}.{}", BASE64.encode([0; 16]));
        assert!(Subscriber::read(&keys).unwrap().encrypt(b"x").is_err());
    }
}
