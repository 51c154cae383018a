-- Images of a document by ordinal.
-- $1: id. $2: generation, or null for what readers see. $3: those above this ordinal. $4: how many.
-- Locking: none, one statement reads one snapshot.
select
    i.ordinal, i.page, i.media_type, i.width, i.height, i.bbox, i.caption, i.sha256, i.size_bytes,
    i.thumbnail
from kbqueue.documents as d
cross join lateral (
    select * from kbqueue.images as i
    where i.document = d.id and i.generation = coalesce($2, d.visible_pages) and i.ordinal > $3
    order by i.ordinal
    limit $4
) as i
where d.id = $1 and d.deleted_at is null
order by i.ordinal
