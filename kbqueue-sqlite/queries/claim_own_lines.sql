-- Lines in which this worker may go on with documents, wherever those stand in their queue.
-- ?1: JSON array of queues. ?2: the worker's audience.
-- Result: in the shape of `claim_lines`; none of a paused queue.
-- Locking: inside BEGIN IMMEDIATE. Run only where a rate is limited: these documents need no token.
select l.id, l.queue, l.tenant, l.turn, l.ready, s.processing, s.settings, s.full_at,
    (select coalesce(max(turn), 0) from kbqueue_lines) as dealt
from json_each(?1) as q
cross join kbqueue_queues as s on s.name = q.value and s.paused = 0 and s.settings is not null
cross join kbqueue_lines as l on l.id in (
    select d.line from kbqueue_documents as d
    where d.queue = s.name and d.due = 1 and d.audience = ?2 and d.audience <> '*'
)
