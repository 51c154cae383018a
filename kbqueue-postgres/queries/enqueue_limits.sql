-- The settings of queues that take in no more than so many, for an enqueue to keep.
-- $1: array of queues.
-- Result: name, settings.
-- Locking: their rows, in the order of their names, so that others count after this is committed. All that may
-- have to be waited for otherwise comes before.
select name, settings from kbqueue.queues
where name = any($1) and max_queued is not null
order by name
for update
