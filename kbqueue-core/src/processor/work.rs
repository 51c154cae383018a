//! The work itself: pages out of the extractor, chunks out of the chunker, both into the store.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use super::Inner;
use super::leases::Watchdog;
use super::pause::Pause;
use crate::chunk::{Chunker, canonical};
use crate::document::{Document, Properties};
use crate::error::{StoreError, chain};
use crate::extract::{ExtractError, ExtractRequest, ExtractedImage, ExtractedPage, Extraction};
use crate::lifecycle::{Cursor, LeaseId};
use crate::output::{Chunk, Image, Page, Progress};
use crate::store::{Checkpoint, Directive, OutputQuery};

/// A checkpoint is due after so many pages, …
const PAGES_PER_CHECKPOINT: usize = 64;
/// … after so much text, …
const BYTES_PER_CHECKPOINT: usize = 4 * 1024 * 1024;
/// … or after so long, whichever comes first.
const TIME_PER_CHECKPOINT: Duration = Duration::from_millis(200);
/// Stored pages read back at once.
const PAGES_PER_READ: u32 = 64;

/// Why work ends before its time.
#[derive(Debug)]
pub(super) enum Stop {
    /// Somebody wants the document stopped.
    Cancelled,
    /// Somebody else may hold it: write nothing more.
    LeaseLost,
    /// It cannot go on, at least not now.
    Error(ExtractError),
}

impl From<ExtractError> for Stop {
    fn from(error: ExtractError) -> Self {
        Self::Error(error)
    }
}

/// One document being worked on. What was committed lies before `committed`, what was not in `pending`.
pub(super) struct Work<'a> {
    inner: &'a Inner,
    document: Document,
    lease_id: LeaseId,
    watchdog: &'a Watchdog,
    chunker: Chunker,
    cursor: Cursor,
    pending: Pending,
    failed_pages: usize,
    first_failure: Option<String>,
    total_pages: u32,
    /// The cursor's page count, and the time, when this attempt began to measure.
    measured_from: (u32, Instant),
}

#[derive(Default)]
struct Pending {
    pages: Vec<Page>,
    chunks: Vec<Chunk>,
    images: Vec<Image>,
    properties: Option<Properties>,
    bytes: usize,
    /// When the oldest of it came in.
    since: Option<Instant>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pages.is_empty()
            && self.chunks.is_empty()
            && self.images.is_empty()
            && self
                .properties
                .as_ref()
                .is_none_or(|properties| properties.0.is_empty())
    }
}

impl<'a> Work<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        document: Document,
        lease_id: LeaseId,
        watchdog: &'a Watchdog,
    ) -> Self {
        let cursor = document.lifecycle.cursor;
        let options = document.chunking.unwrap_or(inner.options.chunking);
        Self {
            chunker: Chunker::resume(options, &cursor),
            cursor,
            pending: Pending::default(),
            failed_pages: document.failed_pages.len(),
            first_failure: document
                .failed_pages
                .first()
                .map(|failed| failed.cause.clone()),
            total_pages: document.lifecycle.progress.total_pages.unwrap_or(0),
            measured_from: (cursor.pages, Instant::now()),
            inner,
            document,
            lease_id,
            watchdog,
        }
    }

    /// Does what is left to do. With `Ok`, all outputs are committed.
    pub(super) async fn run(mut self) -> Result<(), Stop> {
        self.restore().await?;
        if !self.cursor.pages_done {
            self.extract().await?;
            self.cursor.pages_done = true;
        }
        self.chunker.finish();
        self.cut();
        if !self.pending.is_empty() {
            self.commit().await?;
        }
        if self.total_pages > 0 && self.failed_pages == self.total_pages as usize {
            return Err(ExtractError::permanent(format!(
                "none of its {} pages could be read; page 1: {}",
                self.total_pages,
                self.first_failure.unwrap_or_default()
            ))
            .into());
        }
        Ok(())
    }

    /// Shows the chunker the stored pages that it needs again: few after a crash, all for a rechunk.
    async fn restore(&mut self) -> Result<(), Stop> {
        let mut after = Chunker::first_needed_page(&self.cursor) - 1;
        while after < self.cursor.pages {
            let pages = self.read_pages(after).await?;
            let Some(last) = pages.last() else {
                let message = format!("page {} is missing from the store", after + 1);
                return Err(ExtractError::transient(message).into());
            };
            after = last.number;
            pages.iter().for_each(|page| self.chunker.restore(page));
            self.cut();
            if self.is_due() {
                self.commit().await?;
            }
        }
        Ok(())
    }

    async fn read_pages(&self, after: u32) -> Result<Vec<Page>, Stop> {
        let limit = PAGES_PER_READ.min(self.cursor.pages - after);
        let query = OutputQuery {
            generation: Some(self.document.lifecycle.generation.pages),
            after: (after > 0).then_some(after),
            ..OutputQuery::new(self.document.id, limit)
        };
        let mut pause = Pause::default();
        loop {
            match self.inner.store.pages(query.clone()).await {
                Ok(pages) => return Ok(pages),
                Err(error) => self.store_failed(&error, &mut pause).await?,
            }
        }
    }

    async fn extract(&mut self) -> Result<(), Stop> {
        let Extraction {
            total_pages,
            properties,
            mut pages,
        } = self.open().await?;
        self.total_pages = total_pages;
        self.pending.properties = Some(properties);
        // Counts as something to commit, so that the page count is seen before a slow first page.
        self.pending.since = Some(Instant::now());
        self.watchdog.touch();
        self.measured_from = (self.cursor.pages, Instant::now());
        loop {
            let due = self.pending.since.map(|since| since + TIME_PER_CHECKPOINT);
            let page = tokio::select! {
                page = pages.next() => page,
                // A slow page must not keep the finished ones from being committed.
                () = sleep_until(due), if due.is_some() => {
                    self.commit().await?;
                    continue;
                }
            };
            let Some(page) = page else { break };
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    // What was read before the error need not be read again.
                    self.commit().await?;
                    return Err(error.into());
                }
            };
            self.take(page).await?;
            if self.is_due() {
                self.commit().await?;
            }
        }
        if self.cursor.pages == total_pages {
            return Ok(());
        }
        let got = self.cursor.pages;
        Err(ExtractError::transient(format!(
            "the extractor ended after page {got} of {total_pages}"
        ))
        .into())
    }

    async fn open(&self) -> Result<Extraction, Stop> {
        let password = self
            .document
            .open_password(self.inner.options.secret_key.as_ref())?;
        let blob = &self.document.blob;
        let file = self
            .inner
            .blobs
            .open(blob)
            .await
            .map_err(|error| ExtractError::Transient {
                message: chain(&error),
                source: None,
            })?;
        let request = ExtractRequest {
            document: self.document.id,
            file,
            size_bytes: blob.size_bytes,
            media_type: self.document.media_type.clone(),
            first_page: self.cursor.pages + 1,
            password,
        };
        Ok(self.inner.extractor.extract(request).await?)
    }

    /// Takes one page in.
    async fn take(&mut self, page: ExtractedPage) -> Result<(), Stop> {
        let number = self.cursor.pages + 1;
        if page.number != number {
            let message = format!(
                "the extractor gave page {} where page {number} was due",
                page.number
            );
            return Err(ExtractError::transient(message).into());
        }
        let text = if page.failure.is_some() {
            String::new()
        } else {
            canonical(&page.text)
        };
        let (start_offset, end_offset) = self.chunker.push(&text, page.section.clone());
        for image in page.images {
            self.take_image(number, image).await?;
        }
        if let Some(failure) = &page.failure {
            self.failed_pages += 1;
            self.first_failure.get_or_insert_with(|| failure.clone());
        }
        self.pending.bytes += text.len();
        self.pending.since.get_or_insert_with(Instant::now);
        self.pending.pages.push(Page {
            number,
            label: page.label,
            section: page.section,
            provenance: page.provenance,
            start_offset,
            end_offset,
            text,
            failure: page.failure,
        });
        self.cursor.pages = number;
        self.watchdog.touch();
        self.cut();
        Ok(())
    }

    /// Stores a picture's bytes, and then remembers the picture: the blob before the row that names it.
    async fn take_image(&mut self, page: u32, image: ExtractedImage) -> Result<(), Stop> {
        let put = |bytes| async {
            self.inner.blobs.put(bytes).await.map_err(|error| {
                let message = format!(
                    "an image of page {page} could not be stored: {}",
                    chain(&error)
                );
                Stop::from(ExtractError::transient(message))
            })
        };
        let blob = put(image.bytes).await?;
        let thumbnail = match image.thumbnail {
            Some(bytes) => Some(put(bytes).await?),
            None => None,
        };
        self.pending.images.push(Image {
            ordinal: self.cursor.images,
            page,
            media_type: image.media_type,
            width: image.width,
            height: image.height,
            bbox: image.bbox,
            caption: image.caption,
            blob,
            thumbnail,
        });
        self.cursor.images += 1;
        Ok(())
    }

    fn cut(&mut self) {
        let chunks = self.chunker.cut();
        if !chunks.is_empty() {
            self.pending.since.get_or_insert_with(Instant::now);
            self.pending.bytes += chunks.iter().map(|chunk| chunk.text.len()).sum::<usize>();
            self.pending.chunks.extend(chunks);
        }
        self.chunker.save(&mut self.cursor);
    }

    fn is_due(&self) -> bool {
        self.pending.pages.len() >= PAGES_PER_CHECKPOINT
            || self.pending.bytes >= BYTES_PER_CHECKPOINT
            || self
                .pending
                .since
                .is_some_and(|since| since.elapsed() >= TIME_PER_CHECKPOINT)
    }

    /// Commits what is pending, however often the store has to be asked.
    async fn commit(&mut self) -> Result<(), Stop> {
        self.cursor.number += 1;
        let pending = std::mem::take(&mut self.pending);
        let checkpoint = Checkpoint {
            pages: pending.pages,
            chunks: pending.chunks,
            images: pending.images,
            properties: pending.properties,
            ..Checkpoint::new(
                self.document.id,
                self.lease_id,
                self.inner.options.lease,
                self.cursor,
                self.progress(),
            )
        };
        let mut pause = Pause::default();
        loop {
            // Cloned because the answer may get lost, and then the same checkpoint is sent again.
            match self.inner.store.checkpoint(checkpoint.clone()).await {
                Ok(Directive::Continue) => return Ok(()),
                Ok(Directive::Cancel) => return Err(Stop::Cancelled),
                Ok(Directive::LeaseLost) => return Err(Stop::LeaseLost),
                Err(error) => self.store_failed(&error, &mut pause).await?,
            }
        }
    }

    /// Waits before the store is asked again; an error where asking again is of no use.
    async fn store_failed(&self, error: &StoreError, pause: &mut Pause) -> Result<(), Stop> {
        if !error.is_transient() {
            return Err(ExtractError::transient(chain(error)).into());
        }
        tracing::warn!(document = %self.document.id, error = chain(error), "cannot commit, trying again");
        if pause.wait(&self.inner.give_up).await {
            Ok(())
        } else {
            Err(Stop::LeaseLost)
        }
    }

    fn progress(&self) -> Progress {
        let total = u64::from(self.total_pages);
        let pages = u64::from(self.cursor.pages);
        // Pages read are the measure; a rechunk has read them all and goes by the pages cut.
        let rechunk = self.document.lifecycle.cursor.pages_done;
        let done = if rechunk {
            u64::from(self.cursor.chunk_page)
        } else {
            pages
        };
        let percent =
            u8::try_from((done * 100).checked_div(total).unwrap_or(0).min(99)).unwrap_or(99);
        let (first, since) = self.measured_from;
        let measured = u64::from(self.cursor.pages - first);
        let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let eta_ms = (total - pages.min(total))
            .saturating_mul(took_ms)
            .checked_div(measured);
        let options = self.chunker.options();
        let usual = u64::from(options.min_chars() + options.max_chars()) / 2;
        let chars = self
            .chunker
            .text_chars()
            .saturating_mul(total)
            .checked_div(pages)
            .unwrap_or(0);
        let expected = u32::try_from(chars.div_ceil(usual.max(1))).unwrap_or(u32::MAX);
        let total_chunks = match self.chunker.has_ended() {
            true => self.cursor.chunks,
            false => expected.max(self.cursor.chunks + 1),
        };
        Progress {
            current_page: self.cursor.pages,
            total_pages: (total > 0).then_some(self.total_pages),
            current_chunk: self.cursor.chunks,
            total_chunks,
            percent,
            eta_ms,
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
