-- Counts and settings of a queue.
-- $1: name. $2: now, in tests.
-- Result: one row; zeros where nobody used the queue yet.
-- Locking: none, one statement reads one snapshot. The newest totals, what they do not have in them yet,
-- and the few workers there are.
with total as materialized (
    select t.*, coalesce(t.seen, '1:1:') as known
    from (values (true)) as always
    left join lateral (
        select * from kbqueue.totals as t where t.queue = $1 order by t.entry desc limit 1
    ) as t on true
),
since as materialized (
    select d.* from total as t
    cross join lateral (
        select * from kbqueue.deltas as d where d.queue = $1 and d.made_by >= pg_snapshot_xmax(t.known)
    ) as d
    union all
    select d.* from total as t
    cross join lateral pg_snapshot_xip(t.known) as x
    cross join lateral (
        -- (An offset keeps a subquery as it is: one seek for each transaction.)
        select * from kbqueue.deltas as d where d.queue = $1 and d.made_by = x offset 0
    ) as d
),
counts as materialized (
    select
        coalesce(sum(queued), 0)::bigint as queued,
        coalesce(sum(processing), 0)::bigint as processing,
        coalesce(sum(completed), 0)::bigint as completed,
        coalesce(sum(failed), 0)::bigint as failed,
        coalesce(sum(cancelled), 0)::bigint as cancelled
    from (
        select queued, processing, completed, failed, cancelled from total
        union all
        select queued, processing, completed, failed, cancelled from since
    ) as c
)
select
    c.*,
    coalesce((select q.paused from kbqueue.queues as q where q.name = $1), false) as paused,
    (select q.settings from kbqueue.queues as q where q.name = $1) as settings,
    (
        select count(*) from kbqueue.workers as w
        where w.expires_at > coalesce(
            $2::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint
        ) and $1 = any(w.queues)
    ) as live_workers
from counts as c
