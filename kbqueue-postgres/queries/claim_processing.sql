-- How many documents of each line of some queues are processing.
-- $1: array of queues.
-- Locking: none. Claims of these queues wait for the caller; others only end. Walks over what is processing,
-- which is no more than there are slots.
select d.queue, d.line, count(*) as processing
from unnest($1::text[]) as q (name)
cross join lateral (
    select d.queue, d.line from kbqueue.documents as d
    where d.state = 'processing' and d.queue = q.name and d.deleted_at is null
    -- (An offset keeps a subquery as it is.)
    offset 0
) as d
group by d.queue, d.line
