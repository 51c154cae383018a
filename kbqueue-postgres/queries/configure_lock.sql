-- Makes a queue where it is not there, to be configured.
-- $1: name. $2: now, in tests.
-- Result: full_at, and now once it was locked.
-- Locking: the queue's row. It waits for claims that keep its limits.
insert into kbqueue.queues as q (name) values ($1)
on conflict (name) do update set name = excluded.name
returning
    q.full_at,
    coalesce($2::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
