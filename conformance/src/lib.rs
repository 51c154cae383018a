//! The test suite that every store of kbqueue passes.
