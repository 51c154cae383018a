//! What reads one document: pdfium, and what is made of its answers.

mod captions;
mod characters;
mod decide;
pub(crate) mod document;
mod images;
mod info;
mod layout;
#[allow(
    dead_code,
    reason = "whoever starts a child loads it, and none is started yet"
)]
pub(crate) mod ocr;
pub(crate) mod page;
mod picture;
pub(crate) mod raw;
mod reading;
mod repair;
mod source;
#[cfg(test)]
mod tests;
mod text;
