-- The lines that are next: those with claimable documents, in the order of their turns.
-- $1: array of queues. $2: how many lines at most.
-- Result: queue, line; none of a paused queue.
-- Locking: none. Another claim may move a turn, or take what a line has, before this one reads it; then
-- this one finds less. With one claimer the order is exact.
-- The lines that have something are found by one seek each, however many documents wait.
with recursive active(queue, line) as (
    select q.name, (
        select d.line from kbqueue.documents as d
        where d.queue = q.name and d.due = 1
        order by d.line limit 1
    )
    from unnest($1::text[]) as q (name)
    where (select s.paused from kbqueue.queues as s where s.name = q.name) is not true
    union all
    select a.queue, (
        select d.line from kbqueue.documents as d
        where d.queue = a.queue and d.due = 1 and d.line > a.line
        order by d.line limit 1
    )
    from active as a where a.line is not null
),
turns as materialized (
    select a.queue, a.line, coalesce((
        select l.turn from kbqueue.lines as l where l.queue = a.queue and l.line = a.line
    ), 0) as turn
    from active as a where a.line is not null
)
select queue, line from turns order by turn, queue, line limit $2
