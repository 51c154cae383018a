-- One document, to be changed.
-- $1: id. $2: now, in tests.
-- Result: at most one row, with now; none where it was deleted.
-- Locking: the document is locked; the rest of it is written under that lock only.
with locked as materialized (
    select d.* from kbqueue.documents as d where d.id = $1 and d.deleted_at is null for update
)
select
    d.id, d.queue, d.line, d.due, d.state, d.version, d.available_at, d.lease_id, d.lease_expires_at,
    d.deleted_at, d.lifecycle, d.priority, d.attempts,
    e.tenant, e.filename, e.media_type, e.sha256, e.size_bytes, e.chunking, e.metadata, e.properties, e.password,
    e.created_at, f.failed_pages, f.failed_causes,
    coalesce($2::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
from locked as d
left join kbqueue.details as e on e.id = d.id
cross join lateral (
    select
        coalesce(array_agg(p.number order by p.number), '{}') as failed_pages,
        coalesce(array_agg(p.failure order by p.number), '{}') as failed_causes
    from kbqueue.pages as p
    where p.document = d.id and p.generation = d.pages_generation and p.failure is not null
) as f
