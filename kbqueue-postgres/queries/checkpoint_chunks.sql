-- Adds chunks.
-- $1: document. $2: generation. $3..$9: arrays of ordinal, text, first_page, last_page, start_offset,
--     end_offset, section.
-- Locking: the document is locked, its lease was compared, and the cursor that follows is written with it.
insert into kbqueue.chunks (
    document, generation, ordinal, text, first_page, last_page, start_offset, end_offset, section
)
select $1, $2, n.*
from unnest(
    $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[]
) as n
