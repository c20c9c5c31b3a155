//! The key that signs and checks tokens: one file, readable by its owner alone.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::Claims;
use super::seal::Seal;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("the token key {path} cannot be read or made: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner can read the file, so they can sign: change its mode, and the key if they may have.
    #[error("the token key {path} has mode {mode:04o}: others can read it; chmod 600 it, or remove it for a new one")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds no Ed25519 key in PEM (PKCS#8).
    #[error("{path} holds no Ed25519 key in PEM (PKCS#8)")]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
    /// The machine gives no randomness.
    #[error("no key could be made: the machine gives no randomness")]
    Random,
    /// The key does not sign.
    #[error("the key does not sign")]
    Sign,
}

/// The installation's key pair.
pub struct Keys {
    id: String,
    signing: EncodingKey,
    checking: DecodingKey,
    seal: Seal,
    known: Known,
}

/// What good tokens say, by the token.
type Known = quick_cache::sync::Cache<Box<str>, Arc<Claims>>;
/// So many are remembered.
const REMEMBERED: usize = 4096;

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// The key in `path`.
    ///
    /// # Errors
    /// [`KeyError`]; [`KeyError::File`] with `NotFound` where there is none.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let mode = std::fs::metadata(path).map_err(file)?.permissions().mode() & 0o7777;
        if mode & 0o177 != 0 {
            return Err(KeyError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let pem = std::fs::read(path).map_err(file)?;
        let not_a_key = || KeyError::NotAKey { path: path.to_owned() };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| not_a_key())?;
        Self::from_pkcs8(der.secret_pkcs8_der()).ok_or_else(not_a_key)
    }

    /// The key in `path`, made (mode 0600) where there is none. Two that make it at once end up with the same one.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create(path)?;
                Self::load(path)
            }
            other => other,
        }
    }

    /// A key of its own that lives as long as the process: for tests and simulations.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn ephemeral() -> Result<Self, KeyError> {
        Self::from_pkcs8(&generate()?).ok_or(KeyError::Random)
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(der).ok()?;
        let public = pair.public_key().as_ref();
        let hash = schemas::ids::EventId::of("fajma.token_key", &[public]);
        Some(Self {
            id: hash.to_string(),
            signing: EncodingKey::from_ed_der(der),
            checking: DecodingKey::from_ed_der(public),
            seal: Seal::of(der)?,
            known: Known::new(REMEMBERED),
        })
    }

    /// The key's name, as in `kid`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals what a caller is to bring back for one purpose and must not read.
    pub(crate) fn seal(&self, purpose: &str, text: &str) -> Option<String> {
        self.seal.close(purpose, text)
    }

    /// What was sealed for this purpose by a process of this installation.
    pub(crate) fn unseal(&self, purpose: &str, sealed: &str) -> Option<String> {
        self.seal.open(purpose, sealed)
    }

    pub(super) const fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    pub(super) const fn known(&self) -> &Known {
        &self.known
    }

    pub(super) const fn checking(&self) -> &DecodingKey {
        &self.checking
    }
}

fn generate() -> Result<Vec<u8>, KeyError> {
    let rng = aws_lc_rs::rand::SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&rng).map_err(|_| KeyError::Random)?;
    Ok(pkcs8.as_ref().to_vec())
}

/// Writes a new key beside `path` and links it there, so that nobody ever reads half a key or replaces one.
fn create(path: &Path) -> Result<(), KeyError> {
    let file = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    let body = STANDARD.encode(generate()?);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let write = || -> io::Result<()> {
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        out.write_all(pem.as_bytes())?;
        out.sync_all()?;
        match std::fs::hard_link(&draft, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    };
    let written = write();
    let _ = std::fs::remove_file(&draft);
    written.map_err(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        let made = Keys::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Keys::load_or_create(&path).unwrap().id(), made.id());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        Keys::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o700] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(Keys::load_or_create(&path), Err(KeyError::Exposed { .. })),
                "{mode:o}"
            );
        }
    }

    #[test]
    fn what_is_no_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        std::fs::write(&path, "hello").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Keys::load_or_create(&path), Err(KeyError::NotAKey { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    }
}
