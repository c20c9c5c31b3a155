//! Texts that callers keep for us and cannot read: where a list goes on may be after something that they may not see.
//!
//! Sealed with a key that follows from the installation's, so that every process opens what another one sealed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Lengths are rounded up to this, so that they say nothing of the ids in it. Bytes.
const BLOCK: usize = 256;
/// The length stands before the text, in so many bytes.
const LENGTH: usize = 2;

/// What seals and opens.
pub(super) struct Seal(RandomizedNonceKey);

impl Seal {
    /// The one that follows from a secret.
    pub(super) fn of(secret: &[u8]) -> Option<Self> {
        let mut key = [0; 32];
        let derived = Salt::new(HKDF_SHA256, b"fajma.seal").extract(secret);
        derived.expand(&[b"cursors"], HKDF_SHA256).ok()?.fill(&mut key).ok()?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).ok().map(Self)
    }

    /// Seals a text for one purpose; `None` where it is too long.
    pub(super) fn close(&self, purpose: &str, text: &str) -> Option<String> {
        let length = u16::try_from(text.len()).ok()?;
        let mut sealed = [&length.to_be_bytes()[..], text.as_bytes()].concat();
        sealed.resize(sealed.len().next_multiple_of(BLOCK), 0);
        let about = Aad::from(purpose.as_bytes());
        let nonce = self.0.seal_in_place_append_tag(about, &mut sealed).ok()?;
        let mut whole = nonce.as_ref().to_vec();
        whole.append(&mut sealed);
        Some(URL_SAFE_NO_PAD.encode(whole))
    }

    /// The text, where it was sealed here for this purpose.
    pub(super) fn open(&self, purpose: &str, sealed: &str) -> Option<String> {
        let mut whole = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, rest) = whole.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.0.open_in_place(nonce, Aad::from(purpose.as_bytes()), rest).ok()?;
        let (length, text) = plain.split_at_checked(LENGTH)?;
        let length = u16::from_be_bytes(length.try_into().ok()?);
        String::from_utf8(text.get(..length.into())?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_is_read_by_the_same_key_for_the_same_purpose_and_by_nobody_else() {
        let (seal, same, other) = (
            Seal::of(b"one").unwrap(),
            Seal::of(b"one").unwrap(),
            Seal::of(b"two").unwrap(),
        );
        for text in ["", "patient-7", &"x".repeat(3 * BLOCK)] {
            let sealed = seal.close("alerts", text).unwrap();
            assert_eq!(same.open("alerts", &sealed).as_deref(), Some(text));
            assert_eq!(other.open("alerts", &sealed), None);
            assert_eq!(seal.open("sensors", &sealed), None);
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
            for at in [0, NONCE_LEN, bytes.len() - 1] {
                bytes[at] ^= 1;
                assert_eq!(seal.open("alerts", &URL_SAFE_NO_PAD.encode(&bytes)), None, "{at}");
                bytes[at] ^= 1;
            }
        }
        for broken in ["", "AAAA", "?", "zz", &URL_SAFE_NO_PAD.encode([0; NONCE_LEN])] {
            assert_eq!(seal.open("alerts", broken), None, "{broken}");
        }
    }

    #[test]
    fn two_sealed_texts_look_alike_whatever_they_say() {
        let seal = Seal::of(b"one").unwrap();
        let close = |text: &str| seal.close("alerts", text).unwrap();
        assert_eq!(close("a").len(), close(&"b".repeat(200)).len());
        assert_ne!(close("a"), close("a"));
        assert_eq!(seal.close("alerts", &"x".repeat(70_000)), None);
    }
}
