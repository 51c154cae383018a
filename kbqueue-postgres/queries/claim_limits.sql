-- The settings of queues with limits, for a claim to keep.
-- $1: array of queues.
-- Result: name, settings, full_at of those that have limits.
-- Locking: their rows, in the order of their names, until the claim is committed. It is a statement of its own, so
-- that the next one sees all that other claims of these queues did.
select name, settings, full_at from kbqueue.queues
where name = any($1) and limited
order by name
for update
