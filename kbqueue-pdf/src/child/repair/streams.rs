//! Object streams: objects that lie compressed in a stream, as far as it can still be read.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};

use super::super::source::Source;
use super::syntax::{self, Entries};

const BLOCK_BYTES: usize = 64 * 1024;
const MAX_INFLATED_BYTES: usize = 16 << 20;
const MAX_OBJECTS: u32 = 100_000;

/// The readable part of an object stream.
#[derive(Default)]
pub(super) struct ObjectStream {
    data: Vec<u8>,
    /// Where the objects begin, behind the table of their numbers and places.
    first: usize,
    count: u32,
}

impl ObjectStream {
    /// Reads the stream with these `entries`, whose data begin behind the word `stream` at `at`.
    pub(super) fn read(source: &Source, entries: &Entries<'_>, at: u64) -> io::Result<Self> {
        let first = syntax::get(entries, "First").and_then(syntax::number);
        let count = syntax::get(entries, "N").and_then(syntax::number);
        let (Some((first, _)), Some((count, _))) = (first, count) else {
            return Ok(Self::default());
        };
        Ok(Self {
            data: data(source, entries, at, MAX_INFLATED_BYTES)?.unwrap_or_default(),
            first: first as usize,
            count,
        })
    }

    /// Bytes in all.
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// The objects, each with its number. Those that the damage has cut off are left out.
    pub(super) fn objects(&self) -> Vec<(u32, &[u8])> {
        split(&self.data, self.first, self.count)
    }
}

/// The first `limit` bytes, more or less, of the stream with these `entries`, whose data begin behind
/// the word `stream` at `at`. `None` where there is no stream, or one that takes another filter.
pub(super) fn data(
    source: &Source,
    entries: &Entries<'_>,
    at: u64,
    limit: usize,
) -> io::Result<Option<Vec<u8>>> {
    let head = source.bytes(at, 64)?;
    let word = syntax::skip_space(&head, 0);
    if !head[word..].starts_with(b"stream") {
        return Ok(None);
    }
    let mut begin = word + 6;
    begin += usize::from(head.get(begin) == Some(&b'\r'));
    begin += usize::from(head.get(begin) == Some(&b'\n'));
    let at = at + begin as u64;
    let filter = syntax::get(entries, "Filter").unwrap_or(b"");
    let name = filter.strip_prefix(b"[").unwrap_or(filter);
    let name = name[syntax::skip_space(name, 0)..].trim_ascii_end();
    match name.strip_suffix(b"]").unwrap_or(name).trim_ascii_end() {
        b"" => source.bytes(at, limit).map(Some),
        b"/FlateDecode" | b"/Fl" => inflate(source, at, limit).map(Some),
        _ => Ok(None),
    }
}

/// What can be inflated from `at` on. The length that the stream claims is not asked.
fn inflate(source: &Source, mut at: u64, limit: usize) -> io::Result<Vec<u8>> {
    let mut inflater = Decompress::new(true);
    let mut out = Vec::with_capacity(BLOCK_BYTES);
    while at < source.len() && out.len() < limit {
        let block = source.bytes(at, BLOCK_BYTES)?;
        at += block.len() as u64;
        let mut used = 0;
        while used < block.len() {
            let (before_in, before_out) = (inflater.total_in(), out.len());
            out.reserve(BLOCK_BYTES);
            let status = inflater.decompress_vec(&block[used..], &mut out, FlushDecompress::None);
            used += usize::try_from(inflater.total_in() - before_in).expect("within the block");
            let idle = inflater.total_in() == before_in && out.len() == before_out;
            let over = out.len() >= limit;
            match status {
                Ok(Status::Ok | Status::BufError) if !idle && !over => {}
                // The end, damage, or nothing that moves it on.
                _ => return Ok(out),
            }
        }
    }
    Ok(out)
}

/// The data begin with pairs of an object's number and its place behind `first`.
fn split(data: &[u8], first: usize, count: u32) -> Vec<(u32, &[u8])> {
    let Some(bodies) = data.get(first..) else {
        return Vec::new();
    };
    let mut objects = Vec::new();
    let mut at = 0;
    for _ in 0..count.min(MAX_OBJECTS) {
        let mut next = || {
            at = syntax::skip_space(&data[..first], at);
            let (number, length) = syntax::number(&data[at..first])?;
            at += length;
            Some(number)
        };
        let (Some(number), Some(offset)) = (next(), next()) else {
            break;
        };
        let body = bodies.get(offset as usize..).unwrap_or_default();
        let begin = syntax::skip_space(body, 0);
        if let Some(end) = syntax::value_end(body, begin)
            // What runs up to the end of damaged data may have been longer.
            && (end < body.len() || body.ends_with(b">>") || body.ends_with(b"]"))
            && number > 0
            && end > begin
        {
            objects.push((number, &body[begin..end]));
        }
    }
    objects
}
