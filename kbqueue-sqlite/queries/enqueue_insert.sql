-- Takes documents in, in the first state of their lives.
-- ?1: JSON array of [id, queue, tenant, priority, due, available_at, created_at, holds_key, dedupe_key,
--     filename, media_type, sha256, size_bytes, chunking, metadata, password].
-- Locking: inside BEGIN IMMEDIATE; after the lines were made. An id or a key that is there makes it fail.
with n as materialized (select value as v from json_each(?1))
insert into kbqueue_documents (
    id, queue, line, priority, due, available_at, created_at, holds_key, dedupe_key,
    filename, media_type, sha256, size_bytes, chunking, metadata, password,
    state, audience, version, pages_generation, visible_pages, visible_chunks, lifecycle
)
select
    v ->> 0, v ->> 1,
    (select id from kbqueue_lines as l where l.queue = v ->> 1 and l.tenant is v ->> 2),
    v ->> 3, v ->> 4, v ->> 5, v ->> 6, v ->> 7, v ->> 8,
    v ->> 9, v ->> 10, v ->> 11, v ->> 12, v -> 13, v -> 14, v ->> 15,
    'queued', '*', 1, 1, 1, 1, '{}'
from n;
