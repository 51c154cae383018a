-- The documents at the front of lines that are open to everybody, or to this worker's fingerprint, where
-- what `claim_front` read was not enough.
-- $1..$6: arrays of queue, line, its first priority, available_at and id, and how many of the line at most.
-- $7: the worker's audience.
-- Result: whole documents.
-- Locking: each document is locked, and compared again once it is; one that another claim holds is
-- skipped for the next one. No more are locked than asked for, so that none is kept from others.
select
    d.id, d.queue, d.line, d.due, d.state, d.version, d.available_at, d.lease_id, d.lease_expires_at,
    d.deleted_at, d.lifecycle, d.priority, d.attempts,
    e.tenant, e.filename, e.media_type, e.sha256, e.size_bytes, e.chunking, e.metadata, e.properties, e.password,
    e.created_at, f.failed_pages, f.failed_causes
from unnest(
    $1::text[], $2::text[], $3::integer[], $4::bigint[], $5::uuid[], $6::bigint[]
) as l (queue, line, priority, available_at, id, share)
cross join lateral (
    select * from kbqueue.documents as d
    where d.queue = l.queue and d.line = l.line and d.due = 1
      and (d.audience = '*' or d.audience = $7 or d.audience >= '~')
      and (-d.priority::integer, d.available_at, d.id) >= (-l.priority, l.available_at, l.id)
    order by -d.priority::integer, d.available_at, d.id
    limit l.share
    for update skip locked
) as d
left join kbqueue.details as e on e.id = d.id
cross join lateral (
    select
        coalesce(array_agg(p.number order by p.number), '{}') as failed_pages,
        coalesce(array_agg(p.failure order by p.number), '{}') as failed_causes
    from kbqueue.pages as p
    where p.document = d.id and p.generation = d.pages_generation and p.failure is not null
) as f
