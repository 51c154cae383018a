//! The embedded store of kbqueue: documents in a SQLite file.
