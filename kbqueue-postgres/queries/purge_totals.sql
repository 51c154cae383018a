-- Forgets totals that are not the newest of their queues, and differences that the newest ones have in them.
-- Locking: none: of what is removed, nobody has need who sees the newest totals, and who does not sees it still.
with old as (
    delete from kbqueue.totals as t
    where t.entry < (
        select n.entry from kbqueue.totals as n where n.queue = t.queue
        order by n.entry desc limit 1
    )
)
delete from kbqueue.deltas as d
where pg_visible_in_snapshot(d.made_by, (
    select n.seen from kbqueue.totals as n where n.queue = d.queue order by n.entry desc limit 1
))
