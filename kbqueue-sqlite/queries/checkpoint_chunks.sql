-- Adds chunks.
-- ?1: key of the document. ?2: generation. ?3: JSON array of [ordinal, text, first_page, last_page,
--     start_offset, end_offset, section].
-- Locking: inside BEGIN IMMEDIATE, after the fence was checked and with the cursor that follows.
with n as materialized (select value as v from json_each(?3))
insert into kbqueue_chunks (
    document, generation, ordinal, text, first_page, last_page, start_offset, end_offset, section
)
select ?1, ?2, v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, v ->> 5, v ->> 6 from n
