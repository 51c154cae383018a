-- The documents at the front of lines: open to everybody, or to this worker's fingerprint.
-- ?1: JSON array of lines. ?2: the worker's audience. ?3: how many of each line and kind at most.
-- Result: one row, a JSON array of [line, audience, whole document]; the caller merges the two kinds of a
-- line. (Each row that crosses from the driver's thread wakes the caller up.)
-- Bytes where a text or number should be are no JSON: such a row comes back as its name alone.
-- Locking: inside BEGIN IMMEDIATE, so they are still claimable when `save` writes.
select '[' || coalesce(group_concat(
    '[' || d.line || ',' || json_quote(d.audience) || ',' || iif(
        max(
            d.id, d.queue, d.line, coalesce(d.due, 0), d.holds_key, coalesce(d.dedupe_key, 0),
            d.state, d.version,
            d.available_at, coalesce(d.lease_id, 0), coalesce(d.lease_expires_at, 0),
            coalesce(d.deleted_at, 0), d.lifecycle,
            d.priority, d.filename, d.media_type, d.sha256, d.size_bytes, coalesce(d.chunking, 0),
            d.metadata, d.properties, d.created_at, d.attempts, coalesce(d.password, 0)
        ) < x'',
        json_array(
            json_array(
                d.key, d.id, d.queue, d.line, d.due, d.holds_key, d.dedupe_key, d.state, d.version,
                d.available_at, d.lease_id, d.lease_expires_at, d.deleted_at, d.lifecycle
            ),
            (select tenant from kbqueue_lines where id = d.line),
            d.priority, d.filename, d.media_type, d.sha256, d.size_bytes, d.chunking, d.metadata,
            d.properties, d.created_at, d.attempts, d.password,
            json((
                select json_group_array(json_object('page', number, 'cause', failure))
                from kbqueue_pages as p
                where p.document = d.key and p.generation = d.pages_generation and p.failure is not null
            ))
        ),
        json_array(json_array(d.key, iif(typeof(d.id) = 'text', d.id, null)))
    ) || ']', ','
), '') || ']' as rows
from json_each(?1) as l
cross join kbqueue_documents as d on d.key in (
    select * from (
        select key from kbqueue_documents
        where line = l.value and audience = '*' and due = 1
        order by priority desc, available_at, id
        limit ?3
    )
    union all
    select * from (
        select key from kbqueue_documents
        where line = l.value and audience = ?2 and due = 1
        order by priority desc, available_at, id
        limit ?3
    )
)
