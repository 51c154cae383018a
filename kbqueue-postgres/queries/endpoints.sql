-- The endpoints of a queue, by id.
-- $1: queue.
-- Locking: none, one statement reads one snapshot.
select endpoint from kbqueue.endpoints where queue = $1 order by id
