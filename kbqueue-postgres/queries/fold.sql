-- Writes new totals of queues, with what changed since the last ones.
-- $1: array of queues, or null for all that have differences.
-- Locking: the caller has the lock of `fold_lock`, taken before this statement's snapshot: of two folds at once
-- the later totals could have the older snapshot, and lack what was cleaned away in between.
-- What counts is what this snapshot sees, as `seen` says; it may or may not see this very transaction.
with recursive named(queue) as (
    select d.queue from (
        select d.queue from kbqueue.deltas as d where $1::text[] is null order by d.queue limit 1
    ) as d
    union all
    select (
        select d.queue from kbqueue.deltas as d where d.queue > n.queue order by d.queue limit 1
    )
    from named as n where n.queue is not null
),
totals as materialized (
    select q.queue as name, t.*, coalesce(t.seen, '1:1:') as known
    from (
        select queue from named where queue is not null
        union all
        select queue from unnest($1::text[]) as q (queue)
    ) as q
    left join lateral (
        select * from kbqueue.totals as t where t.queue = q.queue order by t.entry desc limit 1
    ) as t on true
),
since as materialized (
    select d.* from totals as t
    cross join lateral (
        select * from kbqueue.deltas as d where d.queue = t.name and d.made_by >= pg_snapshot_xmax(t.known)
    ) as d
    union all
    select d.* from totals as t
    cross join lateral pg_snapshot_xip(t.known) as x
    cross join lateral (
        -- (An offset keeps a subquery as it is: one seek for each transaction.)
        select * from kbqueue.deltas as d where d.queue = t.name and d.made_by = x offset 0
    ) as d
),
counted as materialized (
    select * from since where pg_visible_in_snapshot(made_by, pg_current_snapshot())
)
insert into kbqueue.totals (queue, seen, queued, processing, completed, failed, cancelled)
select
    queue, pg_current_snapshot(), sum(queued), sum(processing), sum(completed), sum(failed), sum(cancelled)
from (
    select queue, queued, processing, completed, failed, cancelled from counted
    union all
    select queue, queued, processing, completed, failed, cancelled from totals
    where queue in (select queue from counted)
) as c
group by queue
order by queue
