-- Removes images that nobody can see.
-- ?1: JSON array of entries. ?2: how many rows at most.
-- Result: as many rows changed as were removed.
-- Locking: inside BEGIN IMMEDIATE; what an entry names is never written to again.
delete from kbqueue_images where rowid in (
    select t.rowid from json_each(?1) as j
    cross join kbqueue_obsolete as o on o.entry = j.value and o.what = 'pages'
    cross join kbqueue_images as t on t.document = o.document and t.generation = o.generation
    union all
    select t.rowid from json_each(?1) as j
    cross join kbqueue_obsolete as o on o.entry = j.value and o.what = 'document'
    cross join kbqueue_images as t on t.document = o.document
    limit ?2
)
