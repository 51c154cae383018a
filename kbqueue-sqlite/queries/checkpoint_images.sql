-- Adds images.
-- ?1: key of the document. ?2: generation. ?3: JSON array of [ordinal, page, media_type, width, height,
--     bbox, caption, sha256, size_bytes, thumbnail].
-- Locking: inside BEGIN IMMEDIATE, after the fence was checked and with the cursor that follows.
with n as materialized (select value as v from json_each(?3))
insert into kbqueue_images (
    document, generation, ordinal, page, media_type, width, height, bbox, caption, sha256,
    size_bytes, thumbnail
)
select
    ?1, ?2, v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, v -> 5, v ->> 6, v ->> 7, v ->> 8, v ->> 9
from n
