//! Secrets: what deliveries are signed with, and the key under which that is stored.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Generate, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use kbqueue_core::outbox::EndpointId;
use sha2::Sha256;

const PREFIX: &str = "whsec_";
const NONCE_BYTES: usize = 24;

/// Why a secret or a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
    /// The key is not the Base64 of 32 bytes.
    #[error("the secret key has to be 32 bytes in Base64: make one with `openssl rand -base64 32`")]
    Key,
    /// The secret is not the Base64 of 24 to 64 bytes behind `whsec_`.
    #[error("a webhook secret has to be `whsec_` and 24 to 64 bytes in Base64")]
    Secret,
    /// What is stored cannot be opened with this key.
    #[error("the stored secret was sealed with another key: set the endpoint's secret again")]
    Sealed,
}

/// What the deliveries to one endpoint are signed with, as Standard Webhooks has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A fresh one of 32 random bytes.
    #[must_use]
    pub fn random() -> Self {
        Self(<[u8; 32]>::generate().to_vec())
    }

    /// Reads `whsec_…`.
    ///
    /// # Errors
    /// [`InvalidSecret::Secret`].
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret::Secret)?;
        let bytes = STANDARD.decode(encoded);
        let bytes = bytes.map_err(|_| InvalidSecret::Secret)?;
        if (24..=64).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(InvalidSecret::Secret)
        }
    }

    /// The secret as text, `whsec_…`, for whoever verifies.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The value of the `webhook-signature` header.
    pub(crate) fn sign(&self, id: &str, at: Timestamp, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{}.", at.as_second()).as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The key under which secrets are stored (`KBQUEUE_SECRET_KEY`): XChaCha20-Poly1305, bound to the
/// endpoint, so that a sealed secret is of no use in another one's row.
#[derive(Clone)]
pub struct SecretKey(XChaCha20Poly1305);

impl SecretKey {
    /// Reads the Base64 of 32 bytes.
    ///
    /// # Errors
    /// [`InvalidSecret::Key`].
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|_| InvalidSecret::Key)?;
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes);
        cipher.map(Self).map_err(|_| InvalidSecret::Key)
    }

    /// What is stored of a secret: a fresh nonce, and what is sealed under it.
    #[must_use]
    pub fn seal(&self, secret: &Secret, endpoint: EndpointId) -> Vec<u8> {
        let nonce = XNonce::generate();
        let payload = Payload {
            msg: &secret.0,
            aad: endpoint.0.as_bytes(),
        };
        let sealed = self.0.encrypt(&nonce, payload);
        let sealed = sealed.expect("a secret is shorter than what can be sealed");
        [nonce.as_slice(), &sealed].concat()
    }

    /// The opposite of `seal`.
    ///
    /// # Errors
    /// [`InvalidSecret::Sealed`].
    pub fn open(&self, sealed: &[u8], endpoint: EndpointId) -> Result<Secret, InvalidSecret> {
        let (nonce, msg) = sealed
            .split_at_checked(NONCE_BYTES)
            .ok_or(InvalidSecret::Sealed)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| InvalidSecret::Sealed)?;
        let payload = Payload {
            msg,
            aad: endpoint.0.as_bytes(),
        };
        let secret = self.0.decrypt(&nonce, payload);
        secret.map(Secret).map_err(|_| InvalidSecret::Sealed)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_sealed_secret_opens_with_its_key_in_its_place_only() {
        let key = |byte: u8| SecretKey::parse(&STANDARD.encode([byte; 32])).unwrap();
        let (here, there) = (EndpointId(Uuid::new_v4()), EndpointId(Uuid::new_v4()));
        let secret = Secret::random();
        let sealed = key(1).seal(&secret, here);
        assert_eq!(key(1).open(&sealed, here), Ok(secret.clone()));
        assert_ne!(
            key(1).seal(&secret, here),
            sealed,
            "a nonce is never used twice"
        );
        assert!(
            !sealed
                .windows(8)
                .any(|part| secret.0.windows(8).any(|p| p == part))
        );
        let mut touched = sealed.clone();
        touched[30] ^= 1;
        for wrong in [
            key(2).open(&sealed, here),
            key(1).open(&sealed, there),
            key(1).open(&touched, here),
            key(1).open(&sealed[..20], here),
        ] {
            assert_eq!(wrong, Err(InvalidSecret::Sealed));
        }
    }

    #[test]
    fn secrets_and_keys_are_read_strictly() {
        let secret = Secret::random();
        assert_eq!(Secret::parse(&secret.reveal()), Ok(secret));
        for text in [
            "whsec_",
            "whsec_AAAA",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "whsec_!",
        ] {
            assert_eq!(Secret::parse(text), Err(InvalidSecret::Secret), "{text}");
        }
        assert!(SecretKey::parse("c2hvcnQ=").is_err());
    }
}
