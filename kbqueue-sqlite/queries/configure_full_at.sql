-- When a queue's rate tokens are all there again.
-- ?1: name.
-- Result: at most one row; null where they are all there.
-- Locking: inside BEGIN IMMEDIATE, with the change of the rate.
select full_at from kbqueue_queues where name = ?1
