-- Forgets a worker.
-- $1: id.
-- Locking: its own row.
delete from kbqueue.workers where id = $1
