-- The endpoints of a queue, by id.
-- ?1: queue.
-- Result: endpoint as JSON.
-- Locking: none, one statement reads one snapshot.
select endpoint from kbqueue_endpoints where queue = ?1 order by id
