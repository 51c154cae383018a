-- Adds images.
-- $1: document. $2: generation. $3..$12: arrays of ordinal, page, media_type, width, height, bbox,
--     caption, sha256, size_bytes, thumbnail.
-- Locking: the document is locked, its lease was compared, and the cursor that follows is written with it.
insert into kbqueue.images (
    document, generation, ordinal, page, media_type, width, height, bbox, caption, sha256,
    size_bytes, thumbnail
)
select $1, $2, n.*
from unnest(
    $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::text[],
    $10::text[], $11::bigint[], $12::text[]
) as n
