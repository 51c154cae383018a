-- Counts and settings of a queue.
-- $1: name. $2: now, in tests.
-- Result: one row; zeros where nobody used the queue yet.
-- Locking: none, one statement reads one snapshot. One row of counts, what was not folded into it yet,
-- and the few workers there are.
select
    coalesce(q.paused, false) as paused,
    coalesce(q.queued, 0) + d.queued as queued,
    coalesce(q.processing, 0) + d.processing as processing,
    coalesce(q.completed, 0) + d.completed as completed,
    coalesce(q.failed, 0) + d.failed as failed,
    coalesce(q.cancelled, 0) + d.cancelled as cancelled,
    (
        select count(*) from kbqueue.workers as w
        where w.expires_at > coalesce(
            $2::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint
        ) and $1 = any(w.queues)
    ) as live_workers
from (
    select
        coalesce(sum(queued), 0)::bigint as queued,
        coalesce(sum(processing), 0)::bigint as processing,
        coalesce(sum(completed), 0)::bigint as completed,
        coalesce(sum(failed), 0)::bigint as failed,
        coalesce(sum(cancelled), 0)::bigint as cancelled
    from kbqueue.deltas where queue = $1
) as d
left join kbqueue.queues as q on q.name = $1
