-- Moves differences of counts into the counts.
-- $1: how many rows at most.
-- Result: as many rows changed as queues were counted.
-- Locking: rows that another fold has are skipped. The counts stay locked until the commit, which is
-- soon: only the store's own transactions fold. Readers add what is not folded in one snapshot, so they
-- see each difference once. Queues are locked in the order of their names.
with gone as (
    delete from kbqueue.deltas
    where entry = any(array(
        select entry from kbqueue.deltas order by entry limit $1 for update skip locked
    ))
    returning *
),
sums as materialized (
    select
        queue, sum(queued) as queued, sum(processing) as processing, sum(completed) as completed,
        sum(failed) as failed, sum(cancelled) as cancelled
    from gone group by queue
)
insert into kbqueue.queues as q (name, queued, processing, completed, failed, cancelled)
select queue, queued, processing, completed, failed, cancelled from sums order by queue
on conflict (name) do update set
    queued = q.queued + excluded.queued,
    processing = q.processing + excluded.processing,
    completed = q.completed + excluded.completed,
    failed = q.failed + excluded.failed,
    cancelled = q.cancelled + excluded.cancelled
