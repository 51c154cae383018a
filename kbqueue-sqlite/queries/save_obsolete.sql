-- Notes what nobody can see any more, for `purge`.
-- ?1: JSON array of [key of the document, 'pages' | 'chunks' | 'document', generation or null].
-- Locking: inside BEGIN IMMEDIATE, together with the change that made it so.
with n as materialized (select value as v from json_each(?1))
insert into kbqueue_obsolete (document, what, generation)
select v ->> 0, v ->> 1, v ->> 2 from n
