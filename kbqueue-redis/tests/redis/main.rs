//! What only Redis does: several stores on one server, what comes between a look and its commit,
//! servers that restart, connections that break, memory that runs out, and how much one script touches.
#![allow(clippy::unwrap_used)] // a test panics by design

mod bounds;
mod faults;
mod limits;
mod open;
mod outbox;
mod proxy;
mod races;
mod schedules;
mod sharing;
mod support;
mod upgrade;
