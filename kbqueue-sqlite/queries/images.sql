-- Images of a document by ordinal.
-- ?1: id. ?2: generation of pages, or null for what readers see. ?3: ordinals above this one. ?4: how
--     many.
-- Locking: none, one statement reads one snapshot.
select
    i.ordinal, i.page, i.media_type, i.width, i.height, i.bbox, i.caption, i.sha256, i.size_bytes,
    i.thumbnail
from kbqueue_documents as d
cross join kbqueue_images as i
    on i.document = d.key and i.generation = coalesce(?2, d.visible_pages) and i.ordinal > ?3
where d.id = ?1 and d.deleted_at is null
order by i.ordinal
limit ?4
