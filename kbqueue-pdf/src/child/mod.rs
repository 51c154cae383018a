//! What reads one document: pdfium, and what is made of its answers.

pub(crate) mod document;
mod info;
pub(crate) mod raw;
mod repair;
mod source;
mod text;
