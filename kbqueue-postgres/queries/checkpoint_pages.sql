-- Adds pages.
-- $1: document. $2: generation. $3..$12: arrays of number, label, section, source, reason, confidence,
--     start_offset, end_offset, text, failure.
-- Locking: the document is locked, its lease was compared, and the cursor that follows is written with it.
insert into kbqueue.pages (
    document, generation, number, label, section, source, reason, confidence, start_offset,
    end_offset, text, failure
)
select $1, $2, n.*
from unnest(
    $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::real[], $9::bigint[],
    $10::bigint[], $11::text[], $12::text[]
) as n
