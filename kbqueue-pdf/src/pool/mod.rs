//! The host's side: who reads which page, how long, and what happens when they do not.

pub(crate) mod budget;
pub(crate) mod child;
pub(crate) mod document;
pub(crate) mod template;
mod window;
mod worker;
