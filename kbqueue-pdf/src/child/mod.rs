//! What runs in a child: pdfium, what is made of its answers, and the walls around it.

pub(crate) mod document;
mod info;
pub(crate) mod raw;
pub(crate) mod sandbox;
pub(crate) mod serve;
pub(crate) mod template;
mod text;
