-- Forgets a worker.
-- ?1: id.
-- Locking: inside BEGIN IMMEDIATE.
delete from kbqueue_workers where id = ?1
