//! What only Redis does: several stores on one server, servers that restart and connections that break,
//! memory that runs out, and how much one script touches.
#![allow(clippy::unwrap_used)] // a test panics by design

mod bounds;
mod faults;
mod open;
mod sharing;
mod support;
