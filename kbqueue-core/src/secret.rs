//! What must not be read by whoever sees the store: the key under which it is sealed, and passwords.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Generate, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

use crate::document::DocumentId;

const NONCE_BYTES: usize = 24;

/// Why a key or what was sealed cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The key is not the Base64 of 32 bytes.
    #[error("the secret key has to be 32 bytes in Base64: make one with `openssl rand -base64 32`")]
    Key,
    /// What is stored cannot be opened with this key.
    #[error("it was sealed with another secret key than this one")]
    Sealed,
    /// No document is opened by this.
    #[error("a password has 1 to 127 bytes of UTF-8, and none of them is zero")]
    Password,
}

/// The key under which secrets are stored (`KBQUEUE_SECRET_KEY`): XChaCha20-Poly1305. Its `Debug` does
/// not show it.
#[derive(Clone)]
pub struct SecretKey(XChaCha20Poly1305);

impl SecretKey {
    /// Reads the Base64 of 32 bytes.
    ///
    /// # Errors
    /// [`SecretError::Key`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SecretError::Key)?;
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes);
        cipher.map(Self).map_err(|_| SecretError::Key)
    }

    /// What may be stored of a secret: a fresh nonce, and what is sealed under it. It opens with the
    /// same `place` alone, so that it is of no use in another row.
    #[must_use]
    pub fn seal(&self, secret: &[u8], place: &[u8]) -> Vec<u8> {
        let nonce = XNonce::generate();
        let payload = Payload {
            msg: secret,
            aad: place,
        };
        let sealed = self.0.encrypt(&nonce, payload);
        let sealed = sealed.expect("a secret is shorter than what can be sealed");
        [nonce.as_slice(), &sealed].concat()
    }

    /// The opposite of `seal`.
    ///
    /// # Errors
    /// [`SecretError::Sealed`].
    pub fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, SecretError> {
        let (nonce, msg) = sealed
            .split_at_checked(NONCE_BYTES)
            .ok_or(SecretError::Sealed)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| SecretError::Sealed)?;
        let opened = self.0.decrypt(&nonce, Payload { msg, aad: place });
        opened.map_err(|_| SecretError::Sealed)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// What opens an encrypted document. Its `Debug` does not show it, and nothing writes it down.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The longest one, as PDF 2.0 has it.
    pub const MAX_BYTES: usize = 127;

    /// Takes a password.
    ///
    /// # Errors
    /// [`SecretError::Password`].
    pub fn new(text: String) -> Result<Self, SecretError> {
        if (1..=Self::MAX_BYTES).contains(&text.len()) && !text.contains('\0') {
            Ok(Self(text))
        } else {
            Err(SecretError::Password)
        }
    }

    /// The password itself, for whoever opens the document.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What a store may keep of it, for this document.
    #[must_use]
    pub fn seal(&self, key: &SecretKey, document: DocumentId) -> SealedPassword {
        SealedPassword(STANDARD.encode(key.seal(self.0.as_bytes(), &place(document))))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A document's password as stores keep it: Base64 of what was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedPassword(String);

impl SealedPassword {
    /// The text of it, in ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What [`as_str`](Self::as_str) gave. Whether it is of use shows when it is opened.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The password.
    ///
    /// # Errors
    /// [`SecretError::Sealed`] where it was sealed with another key, or for another document.
    pub fn open(&self, key: &SecretKey, document: DocumentId) -> Result<Password, SecretError> {
        let sealed = STANDARD.decode(&self.0).map_err(|_| SecretError::Sealed)?;
        let opened = key.open(&sealed, &place(document))?;
        let text = String::from_utf8(opened).map_err(|_| SecretError::Sealed)?;
        Password::new(text)
    }
}

fn place(document: DocumentId) -> Vec<u8> {
    [b"password of ", document.0.as_bytes().as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::parse(&STANDARD.encode([byte; 32])).unwrap()
    }

    #[test]
    fn a_sealed_password_opens_with_its_key_for_its_document_only() {
        let (here, there) = (DocumentId::new(), DocumentId::new());
        let password = Password::new("correct horse ☂".to_owned()).unwrap();
        let sealed = password.seal(&key(1), here);
        assert_eq!(sealed.open(&key(1), here), Ok(password.clone()));
        assert_ne!(
            password.seal(&key(1), here),
            sealed,
            "a nonce is never used twice"
        );
        let stored = STANDARD.decode(sealed.as_str()).unwrap();
        assert!(!stored.windows(5).any(|part| part == b"horse"));
        let mut touched = stored.clone();
        touched[30] ^= 1;
        for (sealed, key, document) in [
            (&stored[..], key(2), here),
            (&stored, key(1), there),
            (&touched, key(1), here),
            (&stored[..20], key(1), here),
            (&[], key(1), here),
        ] {
            let sealed = SealedPassword::from_stored(STANDARD.encode(sealed));
            assert_eq!(sealed.open(&key, document), Err(SecretError::Sealed));
        }
        let nonsense = SealedPassword::from_stored("?".to_owned());
        assert_eq!(nonsense.open(&key(1), here), Err(SecretError::Sealed));
    }

    #[test]
    fn keys_and_passwords_are_read_strictly_and_never_shown() {
        for text in ["", "c2hvcnQ=", "32 bytes that are not Base64 at all"] {
            assert_eq!(SecretKey::parse(text).err(), Some(SecretError::Key));
        }
        for text in [String::new(), "a\0b".to_owned(), "x".repeat(128)] {
            assert_eq!(Password::new(text), Err(SecretError::Password));
        }
        let password = Password::new("hunter2".to_owned()).unwrap();
        assert!(!format!("{password:?} {:?}", key(7)).contains("hunter2"));
    }
}
