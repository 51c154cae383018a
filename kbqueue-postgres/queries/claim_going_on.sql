-- Documents that workers of one fingerprint started, and that can be claimed: the first ones of each line.
-- $1: array of queues. $2: the fingerprint's audience. $3: the same, where others may have them by now, too. $4: how
--     many of each line.
-- Result: whole documents, each with the turn of its line.
-- Locking: each document is locked, and compared again once it is; one that another claim holds is skipped.
-- Walks over all that were started and are due. They need no rate token, so they do not pile up.
with found as materialized (
    select d.*, row_number() over (
        partition by d.queue, d.line order by -d.priority::integer, d.available_at, d.id
    ) as nth
    from unnest($1::text[]) as q (name)
    cross join unnest(array[$2, $3]) as a (audience)
    cross join lateral (
        select d.id, d.queue, d.line, d.priority, d.available_at from kbqueue.documents as d
        where d.queue = q.name and d.due = 1 and d.audience <> '*' and d.audience = a.audience
        offset 0
    ) as d
)
select
    t.turn, d.id, d.queue, d.line, d.due, d.state, d.version, d.available_at, d.lease_id,
    d.lease_expires_at, d.deleted_at, d.lifecycle, d.priority, d.attempts,
    e.tenant, e.filename, e.media_type, e.sha256, e.size_bytes, e.chunking, e.metadata, e.properties, e.password,
    e.created_at, p.failed_pages, p.failed_causes
from found as f
cross join lateral (
    select * from kbqueue.documents as d where d.id = f.id and d.due = 1 for update skip locked
) as d
left join lateral (
    select t.turn from kbqueue.turns as t where t.queue = d.queue and t.line = d.line
    order by t.turn desc limit 1
) as t on true
left join kbqueue.details as e on e.id = d.id
cross join lateral (
    select
        coalesce(array_agg(p.number order by p.number), '{}') as failed_pages,
        coalesce(array_agg(p.failure order by p.number), '{}') as failed_causes
    from kbqueue.pages as p
    where p.document = d.id and p.generation = d.pages_generation and p.failure is not null
) as p
where f.nth <= $4
