//! What only PostgreSQL does: several sessions, locks, lost connections, SQL and its plans.
#![allow(clippy::unwrap_used)]

mod counts;
mod drops;
mod faults;
mod fronts;
mod host;
mod limits;
mod plans;
mod pooler;
mod rows;
mod schema;
mod sharing;
mod support;
mod text;
mod upgrade;
