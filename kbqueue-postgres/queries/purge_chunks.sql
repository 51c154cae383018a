-- Removes chunks that nobody can see.
-- $1: array of entries. $2: how many rows at most.
-- Result: as many rows changed as were removed.
-- Locking: the entries are locked; what they name is never written to again.
delete from kbqueue.chunks where ctid = any(array(
    select t.ctid from kbqueue.obsolete as o
    join kbqueue.chunks as t on t.document = o.document and t.generation = o.generation
    where o.entry = any($1) and o.what = 'chunks'
    union all
    select t.ctid from kbqueue.obsolete as o
    join kbqueue.chunks as t on t.document = o.document
    where o.entry = any($1) and o.what = 'document'
    limit $2
))
