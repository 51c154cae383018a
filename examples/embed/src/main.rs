//! The smallest program that embeds kbqueue.

fn main() {}
