//! The reference server of kbqueue.

fn main() {}
