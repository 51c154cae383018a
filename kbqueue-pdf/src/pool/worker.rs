//! Who works on a document: takes a range of pages, has a child read it, and deals with its death.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kbqueue_core::ExtractError;
use kbqueue_core::extract::ExtractedPage;
use kbqueue_core::output::{PageSource, Provenance};
use tokio::time::Instant;

use super::budget::{self, Slot};
use super::child::{Broken, Child, Skill, lost_again};
use super::document::{Document, OCR_TIME};
use crate::death::Death;

/// How long a document keeps a core that others wait for.
const TURN: Duration = Duration::from_millis(500);
/// How long a child is used. Its CPU time is limited for its whole life, so that must not be forever.
const MAX_AGE: Duration = Duration::from_secs(300);

pub(super) struct Worker {
    document: Arc<Document>,
    /// `None` while it waits for its turn.
    place: Option<Place>,
    is_helper: bool,
    /// How often a child was lost for no fault of the document.
    lost: u32,
}

struct Place {
    /// Dropped before the slot is given back. Only one of them has something to do.
    text: Option<Child>,
    ocr: Option<Child>,
    _slot: Slot,
    since: Instant,
}

/// How far a request got.
enum Outcome {
    /// All pages were read.
    Done,
    /// The child died over this page.
    Died(u32, Death),
    /// Others had waited, so this page was not taken from the child.
    Yielded(u32),
    /// This page takes OCR, and those behind it were not read.
    NeedsOcr(u32),
    /// This page came as an error, which ends the attempt.
    Refused(u32, ExtractError),
}

impl Worker {
    pub(super) fn first(document: Arc<Document>, slot: Slot, child: Child) -> Self {
        let mut worker = Self::helper(document, slot);
        worker.is_helper = false;
        let skill = worker.document.source.skill;
        *worker.place().child(skill) = Some(child);
        worker
    }

    pub(super) fn helper(document: Arc<Document>, slot: Slot) -> Self {
        Self {
            document,
            place: Some(Place::new(slot)),
            is_helper: true,
            lost: 0,
        }
    }

    /// Works until all pages are given out, or the document has failed.
    pub(super) async fn run(mut self) {
        while let Some(range) = self.range().await {
            let start = Instant::now();
            match self.read(range).await {
                Ok(pages) => self.document.took(pages, start.elapsed()),
                Err((page, error)) => {
                    self.document.window.put(page, Err(error), 0);
                    return;
                }
            }
            self.document.recruit();
        }
    }

    /// The pages to read next.
    async fn range(&mut self) -> Option<RangeInclusive<u32>> {
        if let Some(place) = &mut self.place {
            let had_turn = self.is_helper || place.since.elapsed() >= TURN;
            if had_turn && budget::in_demand() {
                self.place = None;
            } else {
                for child in [&mut place.text, &mut place.ocr] {
                    child.take_if(|child| child.born.elapsed() >= MAX_AGE);
                }
            }
        }
        if self.is_helper && self.place.is_none() && !self.document.window.has_returned() {
            return None;
        }
        let document = Arc::clone(&self.document);
        let pages = document.range_pages();
        tokio::select! {
            biased;
            range = document.window.take(pages) => return range,
            () = budget::demand(), if self.place.is_some() => {}
        }
        // The consumer is slow, and others wait.
        self.place = None;
        if self.is_helper {
            return None;
        }
        document.window.take(pages).await
    }

    /// Reads pages into the window, up to the first that takes OCR, and gives those behind it back.
    /// Tells how many it has read; on an error, at which page it stands.
    async fn read(&mut self, range: RangeInclusive<u32>) -> Result<u32, (u32, ExtractError)> {
        let (first, mut last) = range.into_inner();
        let (mut page, mut skill, mut suspect) = (first, self.document.source.skill, None);
        while page <= last {
            // A page that has killed a child is tried alone.
            let until = if suspect == Some(page) { page } else { last };
            match self.request(skill, page, until).await {
                Outcome::Done => page = until + 1,
                Outcome::Yielded(at) => page = at,
                Outcome::NeedsOcr(at) => {
                    self.document.window.give_back(at + 1..=last);
                    (page, last, skill) = (at, at, Skill::Ocr);
                    // OCR takes so long that others should help with the rest from now on.
                    self.document.took(1, OCR_TIME);
                    self.document.recruit();
                }
                Outcome::Refused(at, error) => return Err((at, error)),
                Outcome::Died(at, Death::Elsewhere(cause)) => {
                    tracing::warn!(page = at, cause, "a process that read a PDF was lost");
                    self.lost = lost_again(self.lost, &cause).map_err(|error| (at, error))?;
                    page = at;
                }
                Outcome::Died(at, Death::OfDocument(cause)) if suspect == Some(at) => {
                    tracing::warn!(page = at, cause, "a page of a PDF is given up");
                    let cause =
                        format!("page {at} could not be read: {cause}, and so did the next one");
                    self.deliver(failed(at, cause), 0)?;
                    page = at + 1;
                }
                Outcome::Died(at, Death::OfDocument(cause)) => {
                    tracing::warn!(page = at, cause, "a page of a PDF is tried once more");
                    suspect = Some(at);
                    page = at;
                }
            }
        }
        Ok(last - first + 1)
    }

    /// Has a child read the pages, and delivers those that come.
    async fn request(&mut self, skill: Skill, first: u32, last: u32) -> Outcome {
        let mut child = match self.child(skill, first).await {
            Ok(child) => child,
            Err(error) => return Outcome::Refused(first, error),
        };
        if let Err(broken) = child.ask(first, last).await {
            return Outcome::Died(first, child.autopsy(broken).await);
        }
        for number in first..=last {
            let length = match child.length().await {
                Ok(length) => length,
                Err(broken) => return Outcome::Died(number, child.autopsy(broken).await),
            };
            tokio::select! {
                biased;
                () = self.document.window.room(number, length) => {}
                () = budget::demand() => {
                    drop(child);
                    self.place = None;
                    // Not to wait for a core before there is something to do with it.
                    self.document.window.room(number, length).await;
                    return Outcome::Yielded(number);
                }
            }
            match self.page(&mut child, number, length).await {
                Ok(Ok(None)) => {
                    *self.place().child(skill) = Some(child);
                    return Outcome::NeedsOcr(number);
                }
                Ok(Ok(Some(page))) => {
                    if let Err((at, error)) = self.deliver(page, length) {
                        return Outcome::Refused(at, error);
                    }
                }
                Ok(Err(error)) => return Outcome::Refused(number, error),
                Err(broken) => return Outcome::Died(number, child.autopsy(broken).await),
            }
        }
        *self.place().child(skill) = Some(child);
        Outcome::Done
    }

    async fn page(
        &self,
        child: &mut Child,
        number: u32,
        length: usize,
    ) -> Result<Result<Option<ExtractedPage>, ExtractError>, Broken> {
        let frame = child.message(length).await?;
        child.page(frame, number)
    }

    fn deliver(&self, page: ExtractedPage, bytes: usize) -> Result<(), (u32, ExtractError)> {
        let number = page.number;
        if self.document.source.strict
            && let Some(failure) = page.failure
        {
            return Err((number, ExtractError::permanent(failure)));
        }
        self.document.window.put(number, Ok(page), bytes);
        Ok(())
    }

    /// A child that has the document open, once it is this worker's turn.
    async fn child(&mut self, skill: Skill, page: u32) -> Result<Child, ExtractError> {
        if self.place.is_none() {
            self.place = Some(Place::new(budget::slot().await));
        }
        if let Some(child) = self.place().child(skill).take() {
            return Ok(child);
        }
        let opened = self.document.source.open(skill).await?;
        if opened.total_pages != self.document.total_pages {
            return Err(ExtractError::transient(format!(
                "the PDF had {} pages, and {} when it was opened again for page {page}: the file \
                 was changed meanwhile",
                self.document.total_pages, opened.total_pages
            )));
        }
        Ok(opened.child)
    }

    fn place(&mut self) -> &mut Place {
        self.place
            .as_mut()
            .expect("a worker with a child has a place")
    }
}

impl Place {
    fn new(slot: Slot) -> Self {
        Self {
            text: None,
            ocr: None,
            _slot: slot,
            since: Instant::now(),
        }
    }

    fn child(&mut self, skill: Skill) -> &mut Option<Child> {
        match skill {
            Skill::Text => &mut self.text,
            Skill::Ocr => &mut self.ocr,
        }
    }
}

/// The record of a page that could not be read.
fn failed(number: u32, cause: String) -> ExtractedPage {
    ExtractedPage {
        number,
        label: None,
        section: None,
        provenance: Provenance {
            source: PageSource::None,
            reason: "failed".to_owned(),
            confidence: None,
        },
        text: String::new(),
        failure: Some(cause),
        images: Vec::new(),
    }
}
