-- The lines that are next, in each queue.
-- ?1: JSON array of queues. ?5: how many lines of each queue at most.
-- Result: id, queue, tenant, turn, ready, and of the queue processing, settings, full_at; none of a paused
-- queue. `dealt`, in each, is how many documents were ever dealt: each line's turn is the number of the
-- last one it was dealt.
-- Locking: inside BEGIN IMMEDIATE, so ready counts are true, and the next turns ours.
select l.id, l.queue, l.tenant, l.turn, l.ready, s.processing, s.settings, s.full_at,
    (select coalesce(max(turn), 0) from kbqueue_lines) as dealt
from json_each(?1) as q
cross join kbqueue_queues as s on s.name = q.value and s.paused = 0
cross join kbqueue_lines as l on l.id in (
    select id from kbqueue_lines
    where queue = s.name and ready > 0
    order by turn, tenant
    limit ?5
)
