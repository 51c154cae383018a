-- The schedules of a queue, by name.
-- ?1: queue.
-- Result: name, plan as JSON, next_at, revision.
-- Locking: none, one statement reads one snapshot.
select name, plan, next_at, revision from kbqueue_schedules where queue = ?1 order by name
