//! System and fault tests of kbqueue, and the server helpers that they share.
