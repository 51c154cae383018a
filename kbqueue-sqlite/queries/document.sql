-- One document.
-- ?1: id.
-- Result: at most one row; none where it was deleted.
-- Bytes where a text or number should be are no JSON: such a row comes back as its name alone.
-- Locking: none, one statement reads one snapshot.
select iif(
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
) as row
from kbqueue_documents as d
where d.id = ?1 and d.deleted_at is null
