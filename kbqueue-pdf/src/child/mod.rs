//! What runs in a child: pdfium, what is made of its answers, and the walls around it.

mod captions;
mod characters;
mod decide;
pub(crate) mod document;
mod images;
mod info;
mod layout;
pub(crate) mod ocr;
pub(crate) mod page;
mod picture;
pub(crate) mod raw;
mod reading;
pub(crate) mod repair;
pub(crate) mod sandbox;
pub(crate) mod serve;
pub(crate) mod source;
pub(crate) mod template;
#[cfg(test)]
mod tests;
mod text;
