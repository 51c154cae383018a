//! What only SQLite does: one file, several connections, SQL and its plans.
#![allow(clippy::unwrap_used)]

mod counts;
mod drops;
mod limits;
mod plans;
mod rows;
mod sharing;
mod support;
mod text;
mod upgrade;
