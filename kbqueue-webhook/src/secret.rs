//! Secrets: what deliveries are signed with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::Generate;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use kbqueue_core::SecretKey;
use kbqueue_core::outbox::EndpointId;
use sha2::Sha256;

const PREFIX: &str = "whsec_";

/// Why a secret cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
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

    /// What is stored of it, for this endpoint alone.
    #[must_use]
    pub fn seal(&self, key: &SecretKey, endpoint: EndpointId) -> Vec<u8> {
        key.seal(&self.0, endpoint.0.as_bytes())
    }

    /// The opposite of `seal`.
    ///
    /// # Errors
    /// [`InvalidSecret::Sealed`].
    pub fn open(
        sealed: &[u8],
        key: &SecretKey,
        endpoint: EndpointId,
    ) -> Result<Self, InvalidSecret> {
        let secret = key.open(sealed, endpoint.0.as_bytes());
        secret.map(Self).map_err(|_| InvalidSecret::Sealed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_sealed_secret_opens_for_its_endpoint_only() {
        let key = SecretKey::parse(&STANDARD.encode([1; 32])).unwrap();
        let (here, there) = (EndpointId(Uuid::new_v4()), EndpointId(Uuid::new_v4()));
        let secret = Secret::random();
        let sealed = secret.seal(&key, here);
        assert_eq!(Secret::open(&sealed, &key, here), Ok(secret));
        let elsewhere = Secret::open(&sealed, &key, there);
        assert_eq!(elsewhere, Err(InvalidSecret::Sealed));
    }

    #[test]
    fn secrets_are_read_strictly() {
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
    }
}
