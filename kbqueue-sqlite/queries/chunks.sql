-- Chunks of a document by ordinal.
-- ?1: id. ?2: generation, or null for what readers see. ?3: ordinals above this one. ?4: how many.
-- Locking: none, one statement reads one snapshot.
select
    c.ordinal, c.text, c.first_page, c.last_page, c.start_offset, c.end_offset, c.section
from kbqueue_documents as d
cross join kbqueue_chunks as c
    on c.document = d.key and c.generation = coalesce(?2, d.visible_chunks) and c.ordinal > ?3
where d.id = ?1 and d.deleted_at is null
order by c.ordinal
limit ?4
