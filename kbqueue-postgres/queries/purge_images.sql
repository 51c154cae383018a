-- Removes images that nobody can see.
-- $1: array of entries. $2: how many rows at most.
-- Result: as many rows changed as were removed.
-- Locking: the entries are locked; what they name is never written to again.
delete from kbqueue.images where ctid = any(array(
    select t.ctid from kbqueue.obsolete as o
    join kbqueue.images as t on t.document = o.document and t.generation = o.generation
    where o.entry = any($1) and o.what = 'pages'
    union all
    select t.ctid from kbqueue.obsolete as o
    join kbqueue.images as t on t.document = o.document
    where o.entry = any($1) and o.what = 'document'
    limit $2
))
