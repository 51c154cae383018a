-- Forgets workers that gave no sign of life.
-- ?1: now.
-- Locking: inside BEGIN IMMEDIATE; a worker that was only slow comes back with its next renewal.
delete from kbqueue_workers where expires_at <= ?1
