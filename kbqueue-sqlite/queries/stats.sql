-- Counts and settings of a queue.
-- ?1: name. ?2: now.
-- Result: one row; zeros where nobody used the queue yet.
-- Locking: none, one statement reads one snapshot. One row of counts, and the few workers there are.
select
    coalesce(q.paused, 0) as paused,
    q.settings,
    coalesce(q.queued, 0) as queued,
    coalesce(q.processing, 0) as processing,
    coalesce(q.completed, 0) as completed,
    coalesce(q.failed, 0) as failed,
    coalesce(q.cancelled, 0) as cancelled,
    (
        select count(*) from kbqueue_workers as w
        where w.expires_at > ?2
          and exists (select 1 from json_each(w.queues) as j where j.value = ?1)
    ) as live_workers
from (select 1) as one
left join kbqueue_queues as q on q.name = ?1
