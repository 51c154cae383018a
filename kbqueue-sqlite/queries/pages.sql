-- Pages of a document by number.
-- ?1: id. ?2: generation, or null for what readers see. ?3: numbers above this one. ?4: how many.
-- Locking: none, one statement reads one snapshot.
select
    p.number, p.label, p.section, p.source, p.reason, p.confidence, p.start_offset, p.end_offset,
    p.text, p.failure
from kbqueue_documents as d
cross join kbqueue_pages as p
    on p.document = d.key and p.generation = coalesce(?2, d.visible_pages) and p.number > ?3
where d.id = ?1 and d.deleted_at is null
order by p.number
limit ?4
