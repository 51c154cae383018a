//! The command-line tool of kbqueue.

fn main() {}
