-- Notes which generations there are to see from now on, and what is deleted.
-- ?1: JSON array of [key of the document, deleted_at, pages_generation, visible_pages, visible_chunks].
-- Locking: inside BEGIN IMMEDIATE, together with the change that made it so.
with n as materialized (select value as v from json_each(?1))
update kbqueue_documents as d
set deleted_at = v ->> 1,
    pages_generation = v ->> 2,
    visible_pages = v ->> 3,
    visible_chunks = v ->> 4
from n
where d.key = v ->> 0
