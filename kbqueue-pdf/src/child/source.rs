//! The bytes of one document, as they lie in its file and as a repair has completed them.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// A file that is read block by block, so that it never lies in memory as a whole.
pub(crate) struct Source {
    file: Rc<File>,
    /// Where the document begins in the file.
    start: u64,
    /// How many bytes of the file belong to it.
    file_len: u64,
    /// What follows these bytes. Empty but for a repaired document.
    tail: Vec<u8>,
    bytes_read: Cell<u64>,
    failure: RefCell<Option<io::Error>>,
}

impl Source {
    /// The first `len` bytes of `file`.
    pub(crate) fn new(file: File, len: u64) -> Self {
        Self::of(Rc::new(file), 0, len, Vec::new())
    }

    fn of(file: Rc<File>, start: u64, file_len: u64, tail: Vec<u8>) -> Self {
        Self {
            file,
            start,
            file_len,
            tail,
            bytes_read: Cell::new(0),
            failure: RefCell::new(None),
        }
    }

    /// The same file without its first `skip` bytes.
    pub(crate) fn from(&self, skip: u64) -> Self {
        let skip = skip.min(self.file_len);
        let file = Rc::clone(&self.file);
        Self::of(file, self.start + skip, self.file_len - skip, Vec::new())
    }

    /// The same file with `tail` behind it.
    pub(crate) fn followed_by(self, tail: Vec<u8>) -> Self {
        Self::of(self.file, self.start, self.file_len, tail)
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> u64 {
        self.file_len + self.tail.len() as u64
    }

    /// Fills `buffer` from `position` on.
    pub(crate) fn read(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.bytes_read
            .set(self.bytes_read.get() + buffer.len() as u64);
        let left = self.file_len.saturating_sub(position);
        let in_file = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let (in_file, in_tail) = buffer.split_at_mut(in_file);
        if !in_file.is_empty() {
            self.file.read_exact_at(in_file, self.start + position)?;
        }
        if in_tail.is_empty() {
            return Ok(());
        }
        let found = usize::try_from(position.saturating_sub(self.file_len))
            .ok()
            .and_then(|from| self.tail.get(from..from.checked_add(in_tail.len())?));
        in_tail.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// Up to `len` bytes from `position` on; fewer at the end.
    pub(crate) fn bytes(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let left = self.len().saturating_sub(position);
        let mut bytes = vec![0; usize::try_from(left).map_or(len, |left| left.min(len))];
        self.read(&mut bytes, position)?;
        Ok(bytes)
    }

    /// All bytes read so far, repeated ones counted again.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// Remembers why a block could not be read, where nobody can be told at once.
    pub(crate) fn fail(&self, error: io::Error) {
        *self.failure.borrow_mut() = Some(error);
    }

    /// Why the last block could not be read. pdfium takes such a block for damage in the document.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.failure.borrow_mut().take()
    }
}
