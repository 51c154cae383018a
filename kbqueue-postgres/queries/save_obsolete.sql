-- Notes what nobody can see any more, for `purge`.
-- $1..$3: arrays of document, 'pages' | 'chunks' | 'document', generation or null.
-- Locking: none; in the transaction of the change that made it so.
insert into kbqueue.obsolete (document, what, generation)
select * from unnest($1::uuid[], $2::text[], $3::bigint[])
