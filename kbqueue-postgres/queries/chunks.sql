-- Chunks of a document by ordinal.
-- $1: id. $2: generation, or null for what readers see. $3: those above this ordinal. $4: how many.
-- Locking: none, one statement reads one snapshot.
select
    c.ordinal, c.text, c.first_page, c.last_page, c.start_offset, c.end_offset, c.section
from kbqueue.documents as d
cross join lateral (
    select * from kbqueue.chunks as c
    where c.document = d.id and c.generation = coalesce($2, d.visible_chunks) and c.ordinal > $3
    order by c.ordinal
    limit $4
) as c
where d.id = $1 and d.deleted_at is null
order by c.ordinal
