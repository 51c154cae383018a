//! Mountable axum routers for kbqueue.
