//! What reads one document: pdfium, and what is made of its answers.

mod captions;
mod characters;
pub(crate) mod document;
mod images;
mod info;
mod layout;
mod picture;
pub(crate) mod raw;
mod repair;
mod source;
mod text;
