//! Where the bytes of uploads and images live: named by their SHA-256, streamed, never whole in memory.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use uuid::Uuid;

/// Names some bytes by what they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// How many bytes.
    pub size_bytes: u64,
}

/// Why bytes were not stored or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The bytes are not there.
    #[error("the stored file {0} is missing from the blob store")]
    Missing(String),
    /// The address of the blob store cannot be used.
    #[error("{url:?} is no blob store: {reason}")]
    Address {
        /// The address given.
        url: String,
        /// What is wrong with it, and what to use.
        reason: String,
    },
    /// The blob store did not do it; another try may help.
    #[error("the blob store failed")]
    Store(#[from] object_store::Error),
    /// A local file could not be read or written.
    #[error("a local file could not be used")]
    Io(#[from] std::io::Error),
}

/// Content-addressed bytes in a local directory, in memory, or in any [`ObjectStore`].
///
/// Layout under the store's root: `blobs/ab/abcd…` for what is stored, `tmp/…` for uploads under way.
#[derive(Debug, Clone)]
pub struct BlobStore {
    store: Arc<dyn ObjectStore>,
    /// The same store, where it is a local directory: its files can be opened as they are.
    local: Option<Arc<LocalFileSystem>>,
}

/// Remote stores refuse smaller parts.
const REMOTE_PART_BYTES: usize = 5 * 1024 * 1024;
const LOCAL_PART_BYTES: usize = 256 * 1024;

impl BlobStore {
    /// Opens a blob store by address: `file:PATH` (relative to the working directory, made where it is
    /// missing, every write fsynced) or `memory:`.
    ///
    /// # Errors
    /// [`BlobError::Address`], or [`BlobError::Io`] where the directory cannot be made.
    pub fn connect(url: &str) -> Result<Self, BlobError> {
        if url == "memory:" {
            return Ok(Self::new(Arc::new(InMemory::new())));
        }
        let Some(path) = url.strip_prefix("file:") else {
            let reason = "use file:DIRECTORY or memory:".to_owned();
            return Err(BlobError::Address {
                url: url.to_owned(),
                reason,
            });
        };
        // Both file:dir and file:///dir are in use.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            let reason = "it names no directory".to_owned();
            return Err(BlobError::Address {
                url: url.to_owned(),
                reason,
            });
        }
        let path = PathBuf::from(path);
        std::fs::create_dir_all(&path)?;
        let local = Arc::new(LocalFileSystem::new_with_prefix(path)?.with_fsync(true));
        Ok(Self {
            store: local.clone(),
            local: Some(local),
        })
    }

    /// Uses any object store, under its root.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, local: None }
    }

    /// Begins an upload. Nothing is visible before [`Upload::finish`].
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn upload(&self) -> Result<Upload, BlobError> {
        let path = Path::from(format!("tmp/{}", Uuid::new_v4()));
        let parts = self.store.put_multipart(&path).await?;
        let part_bytes = if self.local.is_some() {
            LOCAL_PART_BYTES
        } else {
            REMOTE_PART_BYTES
        };
        Ok(Upload {
            store: self.clone(),
            path,
            parts: Some(WriteMultipart::new_with_chunk_size(parts, part_bytes)),
            hasher: Sha256::new(),
            size_bytes: 0,
        })
    }

    /// Stores bytes that are in memory already.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn put(&self, bytes: Bytes) -> Result<BlobRef, BlobError> {
        let blob = BlobRef {
            sha256: hex(&Sha256::digest(&bytes)),
            size_bytes: bytes.len() as u64,
        };
        let path = blob_path(&blob);
        if !self.has(&path, &blob).await? {
            self.store.put(&path, bytes.into()).await?;
        }
        Ok(blob)
    }

    /// Stores a local file's bytes.
    ///
    /// # Errors
    /// [`BlobError::Io`] where the file cannot be read; [`BlobError::Store`].
    pub async fn put_file(&self, path: impl AsRef<std::path::Path>) -> Result<BlobRef, BlobError> {
        let mut file = tokio::fs::File::open(path).await?;
        let mut upload = self.upload().await?;
        let mut buffer = vec![0; LOCAL_PART_BYTES];
        loop {
            let read = file.read(&mut buffer).await?;
            if read == 0 {
                return upload.finish().await;
            }
            upload.write(&buffer[..read]).await?;
        }
    }

    /// Opens stored bytes as a file to read and seek in; from a remote store they are first copied to
    /// an unnamed temporary file.
    ///
    /// # Errors
    /// [`BlobError::Missing`]; anything else may pass.
    pub async fn open(&self, blob: &BlobRef) -> Result<File, BlobError> {
        let path = blob_path(blob);
        let missing = || BlobError::Missing(blob.sha256.clone());
        if let Some(local) = &self.local {
            return match File::open(local.path_to_filesystem(&path)?) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing()),
                result => Ok(result?),
            };
        }
        let mut bytes = match self.store.get(&path).await {
            Err(object_store::Error::NotFound { .. }) => return Err(missing()),
            result => result?.into_stream(),
        };
        let mut file = tempfile::tempfile()?;
        while let Some(part) = bytes.next().await {
            file.write_all(&part?)?;
        }
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    async fn has(&self, path: &Path, blob: &BlobRef) -> Result<bool, BlobError> {
        match self.store.head(path).await {
            Ok(meta) => Ok(meta.size == blob.size_bytes),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Bytes on their way in. Dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    store: BlobStore,
    path: Path,
    parts: Option<WriteMultipart>,
    hasher: Sha256,
    size_bytes: u64,
}

impl Upload {
    /// How many bytes came so far.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Takes the next bytes; waits while the store is slower than the sender.
    ///
    /// # Errors
    /// [`BlobError::Store`]; the upload is then of no more use.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let parts = self
            .parts
            .as_mut()
            .expect("only `finish` and `drop` take it");
        parts.wait_for_capacity(2).await?;
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        parts.write(bytes);
        Ok(())
    }

    /// Makes the bytes visible under their hash, durably.
    ///
    /// # Errors
    /// [`BlobError::Store`]; nothing is visible then.
    pub async fn finish(mut self) -> Result<BlobRef, BlobError> {
        let parts = self.parts.take().expect("only `finish` and `drop` take it");
        let written = parts.finish().await;
        let blob = BlobRef {
            sha256: hex(&self.hasher.finalize_reset()),
            size_bytes: self.size_bytes,
        };
        let path = blob_path(&blob);
        let store = self.store.clone();
        let published = async {
            written?;
            if !store.has(&path, &blob).await? {
                store.store.copy(&self.path, &path).await?;
            }
            Ok::<_, BlobError>(())
        }
        .await;
        // A temporary file that stays is no harm but space; the error of the upload is what counts.
        if let Err(error) = store.store.delete(&self.path).await {
            tracing::warn!(path = %self.path, %error, "a temporary upload could not be removed");
        }
        published.map(|()| blob)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(parts), Ok(runtime)) =
            (self.parts.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(parts.abort());
        }
    }
}

fn blob_path(blob: &BlobRef) -> Path {
    let prefix = blob.sha256.get(..2).unwrap_or("xx");
    Path::from(format!("blobs/{prefix}/{}", blob.sha256))
}

fn hex(digest: &[u8]) -> String {
    use std::fmt::Write;
    digest
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String succeeds");
            text
        })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    async fn upload_and_read_back(store: &BlobStore) {
        let mut upload = store.upload().await.unwrap();
        let part = vec![7u8; 300_000];
        for _ in 0..10 {
            upload.write(&part).await.unwrap();
        }
        let blob = upload.finish().await.unwrap();
        assert_eq!(blob.size_bytes, 3_000_000);
        assert_eq!(store.put(vec![7u8; 3_000_000].into()).await.unwrap(), blob);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![7u8; 3_000_000]).unwrap();
        assert_eq!(store.put_file(file.path()).await.unwrap(), blob);
        let mut bytes = Vec::new();
        store
            .open(&blob)
            .await
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, vec![7u8; 3_000_000]);
    }

    fn files(root: &std::path::Path) -> usize {
        let Ok(entries) = std::fs::read_dir(root) else {
            return 0;
        };
        entries
            .flatten()
            .map(|e| {
                if e.path().is_dir() {
                    files(&e.path())
                } else {
                    1
                }
            })
            .sum()
    }

    #[tokio::test]
    async fn what_is_uploaded_is_found_by_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let local = BlobStore::connect(&format!("file:{}", dir.path().display())).unwrap();
        upload_and_read_back(&local).await;
        assert_eq!(files(dir.path()), 1, "no temporary file stays");
        upload_and_read_back(&BlobStore::connect("memory:").unwrap()).await;
    }

    #[tokio::test]
    async fn an_upload_that_is_dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::connect(&format!("file:{}", dir.path().display())).unwrap();
        let mut upload = store.upload().await.unwrap();
        upload.write(&[1; 600_000]).await.unwrap();
        drop(upload);
        let gone = async {
            while files(dir.path()) > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), gone)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn missing_bytes_and_odd_addresses_are_named() {
        let store = BlobStore::connect("memory:").unwrap();
        let blob = BlobRef {
            sha256: "ab".repeat(32),
            size_bytes: 1,
        };
        assert!(
            matches!(store.open(&blob).await, Err(BlobError::Missing(name)) if name == blob.sha256)
        );
        for url in ["ftp://x", "file:", "kbqueue-data"] {
            assert!(
                matches!(BlobStore::connect(url), Err(BlobError::Address { .. })),
                "{url}"
            );
        }
    }
}
