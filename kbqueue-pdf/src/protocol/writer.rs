//! The child's half: frames into bytes, within the bounds that the host keeps to.

use std::error::Error;

use kbqueue_core::extract::{ExtractedImage, ExtractedPage};
use kbqueue_core::output::PageSource;
use kbqueue_core::{ExtractError, Properties};

use super::{
    LENGTH_BYTES, MAX_CAUSES, MAX_FRAME_BYTES, MAX_IMAGES, MAX_MESSAGE_BYTES, MAX_NAME_BYTES,
    MAX_PROPERTIES, MAX_TEXT_BYTES, NEEDS_OCR, OPENED, PAGE, REFUSED,
};

/// A message that grows. Its length is filled in at the end.
struct Message(Vec<u8>);

pub(crate) fn encode_opened(total_pages: u32, properties: &Properties) -> Vec<u8> {
    let mut message = Message::new(OPENED);
    message.u32(total_pages);
    message.list(
        properties.0.iter().take(MAX_PROPERTIES),
        |message, (name, value)| {
            message.text(name, MAX_NAME_BYTES);
            message.text(value, MAX_NAME_BYTES);
        },
    );
    message.finish()
}

pub(crate) fn encode_refused(error: &ExtractError) -> Vec<u8> {
    let mut message = Message::new(REFUSED);
    match error {
        ExtractError::Permanent { .. } => message.u8(0),
        // No child has a document wait.
        ExtractError::Transient { .. } | ExtractError::Snooze { .. } => message.u8(1),
    }
    message.text(&error.to_string(), MAX_MESSAGE_BYTES);
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause.filter(|_| causes.len() < MAX_CAUSES) {
        causes.push(error.to_string());
        cause = error.source();
    }
    message.list(causes, |message, cause| {
        message.text(&cause, MAX_MESSAGE_BYTES);
    });
    message.finish()
}

pub(crate) fn encode_needs_ocr(number: u32) -> Vec<u8> {
    let mut message = Message::new(NEEDS_OCR);
    message.u32(number);
    message.finish()
}

/// Takes the page, so that its pictures need not lie in memory twice for longer than a copy takes.
pub(crate) fn encode_page(page: ExtractedPage) -> Vec<u8> {
    let mut message = Message::new(PAGE);
    message.u32(page.number);
    message.option(page.label.as_deref(), |m, label| {
        m.text(label, MAX_NAME_BYTES);
    });
    message.option(page.section.as_deref(), |m, section| {
        m.text(section, MAX_NAME_BYTES);
    });
    message.u8(match page.provenance.source {
        PageSource::None => 0,
        PageSource::Text => 1,
        PageSource::Ocr => 2,
        PageSource::Mixed => 3,
    });
    message.text(&page.provenance.reason, MAX_NAME_BYTES);
    message.option(page.provenance.confidence, Message::f32);
    message.text(&page.text, MAX_TEXT_BYTES);
    message.option(page.failure.as_deref(), |m, failure| {
        m.text(failure, MAX_MESSAGE_BYTES);
    });

    let mut room = MAX_FRAME_BYTES - message.0.len();
    let images = page
        .images
        .into_iter()
        .take(MAX_IMAGES)
        .take_while(|image| {
            let fits = room.checked_sub(most_bytes(image));
            room = fits.unwrap_or(0);
            fits.is_some()
        });
    message.list(images.collect::<Vec<_>>(), |message, image| {
        message.bytes(&image.bytes);
        message.text(&image.media_type, MAX_NAME_BYTES);
        message.u32(image.width);
        message.u32(image.height);
        for edge in image.bbox {
            message.f32(edge);
        }
        message.option(image.caption.as_deref(), |m, caption| {
            m.text(caption, MAX_NAME_BYTES);
        });
        message.option(image.thumbnail.as_deref(), Message::bytes);
    });
    message.finish()
}

/// Never less than the picture takes in a message.
fn most_bytes(image: &ExtractedImage) -> usize {
    let thumbnail = image.thumbnail.as_ref().map_or(0, bytes::Bytes::len);
    image.bytes.len() + thumbnail + 2 * MAX_NAME_BYTES + 64
}

impl Message {
    fn new(kind: u8) -> Self {
        let mut message = Self(vec![0; LENGTH_BYTES]);
        message.u8(kind);
        message
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn f32(&mut self, value: f32) {
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("no message is that long"));
        self.0.extend_from_slice(bytes);
    }

    /// The text, cut to `max_bytes`.
    fn text(&mut self, text: &str, max_bytes: usize) {
        self.bytes(&text.as_bytes()[..text.floor_char_boundary(max_bytes)]);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn list<T, I>(&mut self, items: I, mut write: impl FnMut(&mut Self, T))
    where
        I: IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    {
        let items = items.into_iter();
        self.u32(u32::try_from(items.len()).expect("lists are cut to their bounds"));
        for item in items {
            write(self, item);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() - LENGTH_BYTES;
        let len = u32::try_from(len).expect("no message is that long");
        self.0[..LENGTH_BYTES].copy_from_slice(&len.to_le_bytes());
        self.0
    }
}
