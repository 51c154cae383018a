-- Takes documents in, in the first state of their lives, where nothing stands in their way.
-- $1..$13: arrays of id, queue, line, tenant, priority, available_at (null: now), dedupe_key, filename,
--     media_type, sha256, size_bytes, chunking, metadata. $14: now, in tests. No id and no key twice.
-- $19: array of password.
-- $15: channel. $16: what to tell where all were taken in, $17 where only some were. $18: whether this statement is
--     a transaction of its own.
-- Result: id of each document inserted, and whether it got its key; one that did not is to be deleted. Where nobody
--     could do so any more, it is an error (22012), and nothing is inserted. A row without an id says that a queue
--     takes in no more than so many: the caller has to look at that, or, where nobody could, nothing is inserted.
-- Locking: none but what the unique indexes do. An id or a key that another transaction is about to
-- insert is waited for; if it commits, ours is not inserted. Keys are taken in their order, so that two
-- batches do not wait for each other.
-- Runs in the host's own session too, whose planner settings are unknown: hence subselects with a limit,
-- which are index seeks however the planner is set.
with n as materialized (
    select * from unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::bigint[], $7::bytea[],
        $8::text[], $9::text[], $10::text[], $11::bigint[], $12::text[], $13::text[], $19::text[]
    ) as n (
        id, queue, line, tenant, priority, available_at, dedupe_key, filename, media_type, sha256,
        size_bytes, chunking, metadata, password
    )
),
guard as materialized (
    select exists (
        select 1 from (select distinct queue from n) as q
        cross join lateral (
            select 1 from kbqueue.queues as s where s.name = q.queue and s.max_queued is not null limit 1
        ) as x
    ) as limited
),
instant as materialized (
    select coalesce($14::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
),
fresh as materialized (
    select n.*, i.now, coalesce(n.available_at, i.now) as due_at
    from n cross join instant as i
    where (select true from kbqueue.documents as d where d.id = n.id limit 1) is null
      and (
          select true from kbqueue.keys as k
          where k.queue = n.queue and k.dedupe_key = n.dedupe_key
          limit 1
      ) is null
      and not ($18 and (select limited from guard))
),
made as (
    insert into kbqueue.documents (
        id, queue, line, priority, state, due, audience, available_at, version, pages_generation,
        visible_pages, visible_chunks, lifecycle
    )
    select
        id, queue, line, priority, 'queued', case when due_at <= now then 1 else 0 end, '*', due_at, 1, 1,
        1, 1, '{}'
    from fresh order by id
    on conflict (id) do nothing
    returning id
),
-- Written so that they become hashed subplans: joins of these would be nested loops, as the planner is set.
taken as (
    insert into kbqueue.keys (queue, dedupe_key, document)
    select f.queue, f.dedupe_key, f.id
    from fresh as f
    where f.dedupe_key is not null and (f.id in (select id from made)) is true
    order by f.queue, f.dedupe_key
    on conflict do nothing
    returning document
),
kept as materialized (
    select f.*
    from fresh as f
    where (f.id in (select id from made)) is true
      and (f.dedupe_key is null or f.id in (select document from taken))
),
detailed as (
    insert into kbqueue.details (
        id, tenant, filename, media_type, sha256, size_bytes, chunking, metadata, password, dedupe_key,
        created_at
    )
    select
        id, tenant, filename, media_type, sha256, size_bytes, chunking, metadata, password, dedupe_key, now
    from kept
),
counted as (
    insert into kbqueue.deltas (queue, queued)
    select queue, count(*) from kept group by queue
),
arrived as (
    insert into kbqueue.arrivals (queue, line, priority, available_at, id)
    select distinct on (queue, line) queue, line, priority, due_at, id
    from kept where due_at <= now
    order by queue, line, priority desc, due_at, id
)
select
    m.id, m.kept, 1 / (case when m.kept or not $18 then 1 else 0 end) as undone,
    (
        select pg_notify($15, case when count(*) = cardinality($1) then $16 else $17 end)::text
        from kept having count(*) > 0
    ) as told
from (select m.id, (m.id in (select id from kept)) is true as kept from made as m offset 0) as m
union all
select null, false, 0, null from guard where limited
