-- The schedules of a queue, by name.
-- $1: queue. $2: now, in tests.
-- Result: a row for each, and one with nothing but now where there is none.
-- Locking: none, one statement reads one snapshot.
select s.*, i.now
from (
    select coalesce($2::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
) as i
left join lateral (select * from kbqueue.schedules where queue = $1) as s on true
order by s.name
