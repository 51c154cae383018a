-- A page of documents, newest id first.
-- $1: queue, or null for all. $2: state, or null for all. $3: ids below this one, or null. $4: how many.
-- $5: line, or null for all. $6: what file names begin with, or null.
-- Result: at most $4 rows, none deleted.
-- Locking: none, one statement reads one snapshot.
-- Each state of each queue is the front of one index range, so the cost does not grow with the queue, unless
-- few are of the line and the name asked for.
with recursive wanted(state) as (
    select s.state
    from unnest(array['queued', 'processing', 'completed', 'failed', 'cancelled']) as s (state)
    where $2::text is null or s.state = $2
),
-- Every queue that has documents in the state: one seek for each.
places(state, queue) as (
    select w.state, coalesce($1, (
        select d.queue from kbqueue.documents as d
        where d.state = w.state and d.deleted_at is null
        order by d.queue limit 1
    ))
    from wanted as w
    union all
    select p.state, (
        select d.queue from kbqueue.documents as d
        where d.state = p.state and d.deleted_at is null and d.queue > p.queue
        order by d.queue limit 1
    )
    from places as p where $1::text is null and p.queue is not null
),
front as materialized (
    select x.id from places as p
    cross join lateral (
        select d.id from kbqueue.documents as d
        where d.state = p.state and d.queue = p.queue and d.deleted_at is null
          and d.id < coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
          and ($5::text is null or d.line = $5)
          and ($6::text is null or (
              select starts_with(e.filename, $6) from kbqueue.details as e where e.id = d.id
          ))
        order by d.id desc
        limit $4
    ) as x
    order by x.id desc
    limit $4
)
select
    d.id, d.queue, d.line, d.due, d.state, d.version, d.available_at, d.lease_id, d.lease_expires_at,
    d.deleted_at, d.lifecycle, d.priority, d.attempts,
    e.tenant, e.filename, e.media_type, e.sha256, e.size_bytes, e.chunking, e.metadata, e.properties, e.password,
    e.created_at, f.failed_pages, f.failed_causes
from front
join kbqueue.documents as d on d.id = front.id
left join kbqueue.details as e on e.id = d.id
cross join lateral (
    select
        coalesce(array_agg(p.number order by p.number), '{}') as failed_pages,
        coalesce(array_agg(p.failure order by p.number), '{}') as failed_causes
    from kbqueue.pages as p
    where p.document = d.id and p.generation = d.pages_generation and p.failure is not null
) as f
order by d.id desc
