//! One page: its text, from wherever it can be had, and its pictures.

use std::ffi::c_int;
use std::rc::Rc;

use kbqueue_core::extract::ExtractedImage;
use kbqueue_core::output::{PageSource, Provenance};

use super::captions::TextLine;
use super::characters::Characters;
use super::decide::{self, Decision, Signals};
use super::images::{self, Images};
use super::ocr::Ocr;
use super::raw::{Document, Kind, Object, Page, Rect};
use super::reading::Shown;

/// A dense page has 20,000 characters.
const MAX_PAGE_CHARS: c_int = 2_000_000;
/// What a page draws beyond so many things is not looked at for pictures.
const MAX_OBJECTS: usize = 20_000;
/// A picture that text covers to a larger share is a background.
const MAX_COVERED: f64 = 0.1;

/// What is wanted of each page beside its text. By default, pictures alone.
#[derive(Clone)]
pub(crate) struct Wanted {
    /// Its pictures. They cost as much time as the text, where there are some.
    pub(crate) images: bool,
    pub(crate) ocr: Reader,
    /// Whether it reads pages with text as well.
    pub(crate) always: bool,
}

/// What reads pages whose text is in their pixels.
#[derive(Clone)]
pub(crate) enum Reader {
    /// They come with what text they have.
    Nobody,
    /// They are not read here.
    Elsewhere,
    Here(Rc<Ocr>),
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            images: true,
            ocr: Reader::Nobody,
            always: false,
        }
    }
}

/// What was found on a page.
pub(super) struct ReadPage {
    pub(super) text: String,
    pub(super) provenance: Provenance,
    pub(super) images: Vec<ExtractedImage>,
}

impl ReadPage {
    /// Of a page that could not be read.
    pub(super) fn failed() -> Self {
        Self {
            text: String::new(),
            provenance: provenance(PageSource::None, "failed", None),
            images: Vec::new(),
        }
    }
}

/// Reads the page at `index`, from 0. `None`: it takes OCR, which is to be had elsewhere. The error is
/// the end of a sentence about it.
pub(super) fn read(
    document: &Document,
    index: c_int,
    images: &mut Images,
    wanted: &Wanted,
) -> Result<Option<ReadPage>, String> {
    let page = document
        .page(index)
        .ok_or("could not be loaded: it is missing or damaged")?;
    let text_page = page
        .text()
        .ok_or("could not be read: its content is damaged")?;
    let count = text_page.count();
    if count < 0 {
        return Err("could not be read: its characters cannot be counted".to_owned());
    }
    if count > MAX_PAGE_CHARS {
        return Err(format!(
            "could not be read: it has {count} characters, and at most {MAX_PAGE_CHARS} are \
             supported"
        ));
    }
    let characters = Characters::read(&text_page, count, visible_part(&page));
    let objects = page.objects(MAX_OBJECTS);
    let ends = characters.lines();
    let text = characters.text(&ends);
    let groups = images::groups(&page, &objects);
    let pictures = images::places(&groups);
    let lines = if pictures.is_empty() {
        Vec::new()
    } else {
        characters.text_lines(&ends, &page)
    };
    let bare = bare_parts(&pictures, &lines);
    let signals = signals(&page, &objects, &characters, &text, &pictures, &bare);
    let (decision, reason) = if wanted.always {
        (Decision::WholePage, "always")
    } else {
        decide::decide(&signals)
    };
    if decision != Decision::Text && matches!(wanted.ocr, Reader::Elsewhere) {
        return Ok(None);
    }
    let images = if wanted.images {
        images.read(document, &page, &groups, &lines)
    } else {
        Vec::new()
    };
    let shown = Shown {
        page: &page,
        pictures: &pictures,
    };
    let own = if text.is_empty() {
        PageSource::None
    } else {
        PageSource::Text
    };
    let (text, provenance) = match (decision, &wanted.ocr) {
        (Decision::WholePage, Reader::Here(ocr)) => match shown.read_page(ocr) {
            // Nothing in the pixels: what text there is stays.
            Some(read) if !read.text.is_empty() => {
                let confidence = Some(read.confidence);
                (read.text, provenance(PageSource::Ocr, reason, confidence))
            }
            _ => (text, provenance(own, reason, None)),
        },
        (Decision::Pictures, Reader::Here(ocr)) => {
            let parts = shown.read_parts(ocr, &bare);
            with_parts(text, own, reason, parts)
        }
        _ => (text, provenance(own, reason, None)),
    };
    Ok(Some(ReadPage {
        text,
        provenance,
        images,
    }))
}

/// `None` where the page's boxes leave nothing to see: viewers then ignore them.
fn visible_part(page: &Page<'_>) -> Option<Rect> {
    page.bounds()
        .filter(|bounds| bounds.left < bounds.right && bounds.bottom < bounds.top)
}

fn provenance(source: PageSource, reason: &str, confidence: Option<f32>) -> Provenance {
    Provenance {
        source,
        reason: reason.to_owned(),
        confidence,
    }
}

/// The text with what was read out of pictures behind it.
fn with_parts(
    mut text: String,
    own: PageSource,
    reason: &str,
    parts: Vec<super::ocr::Recognised>,
) -> (String, Provenance) {
    if parts.is_empty() {
        return (text, provenance(own, reason, None));
    }
    #[allow(clippy::cast_precision_loss, reason = "a few")]
    let confidence = parts.iter().map(|part| part.confidence).sum::<f32>() / parts.len() as f32;
    for part in parts {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&part.text);
    }
    let source = match own {
        PageSource::Text => PageSource::Mixed,
        _ => PageSource::Ocr,
    };
    (text, provenance(source, reason, Some(confidence)))
}

fn signals(
    page: &Page<'_>,
    objects: &[Object<'_>],
    characters: &Characters<'_>,
    text: &str,
    pictures: &[(Rect, (u32, u32))],
    bare: &[Rect],
) -> Signals {
    let (width, height) = page.size();
    let share = |area: f64| (area / (width * height).max(1.0)).min(1.0);
    let count = |kind| objects.iter().filter(|object| object.kind == kind).count();
    let texts = count(Kind::Text);
    let hidden = texts > 0
        && !pictures.is_empty()
        && objects
            .iter()
            .filter(|object| object.kind == Kind::Text)
            .all(Object::is_invisible_text);
    Signals {
        chars: characters.seen(),
        hidden,
        unmapped: characters.unmapped(),
        plausible: decide::plausible(text),
        pictures: share(pictures.iter().map(|(rect, _)| area(rect)).sum()),
        uncovered: share(bare.iter().map(area).sum()),
        paths: count(Kind::Path),
    }
}

/// The pictures over which no text lies.
fn bare_parts(pictures: &[(Rect, (u32, u32))], lines: &[TextLine]) -> Vec<Rect> {
    let covered = |picture: &Rect| {
        let shared = |line: &TextLine| {
            let width = line.shown.right.min(picture.right) - line.shown.left.max(picture.left);
            let height = line.shown.bottom.min(picture.bottom) - line.shown.top.max(picture.top);
            width.max(0.0) * height.max(0.0)
        };
        lines.iter().map(shared).sum::<f64>() / area(picture)
    };
    pictures
        .iter()
        .map(|(picture, _)| *picture)
        .filter(|picture| covered(picture) < MAX_COVERED)
        .collect()
}

fn area(shown: &Rect) -> f64 {
    (shown.right - shown.left) * (shown.bottom - shown.top)
}
