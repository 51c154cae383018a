//! What reads one document: pdfium, and what is made of its answers.

mod characters;
pub(crate) mod document;
mod info;
mod layout;
pub(crate) mod raw;
mod repair;
mod source;
mod text;
