//! System and fault tests of kbqueue, and the helpers that they share: whole processes, and PDFs made
//! to measure.
#![allow(clippy::unwrap_used)] // a test helper panics by design

pub mod browser;
pub mod host;
pub mod pdf;
pub mod postgres;
pub mod program;
pub mod redis;
pub mod server;
