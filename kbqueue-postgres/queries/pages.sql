-- Pages of a document by number.
-- $1: id. $2: generation, or null for what readers see. $3: those above this number. $4: how many.
-- Locking: none, one statement reads one snapshot.
select
    p.number, p.label, p.section, p.source, p.reason, p.confidence, p.start_offset, p.end_offset,
    p.text, p.failure
from kbqueue.documents as d
cross join lateral (
    select * from kbqueue.pages as p
    where p.document = d.id and p.generation = coalesce($2, d.visible_pages) and p.number > $3
    order by p.number
    limit $4
) as p
where d.id = $1 and d.deleted_at is null
order by p.number
