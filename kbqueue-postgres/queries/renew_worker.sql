-- Notes that a worker lives.
-- $1: id. $2: name. $3: array of its queues. $4: how long it counts as alive. $5: now, in tests.
-- Locking: its own row.
insert into kbqueue.workers (id, name, queues, expires_at)
select $1, $2, $3, i.now + least($4, 253402207200000000 - i.now)
from (
    select coalesce($5::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
) as i
on conflict (id) do update set
    name = excluded.name, queues = excluded.queues, expires_at = excluded.expires_at
