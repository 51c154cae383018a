-- Lifecycles of documents, for the specification to judge.
-- ?1: JSON array of ids.
-- Result: one row: a JSON array of those that are there, in no order; and whether anybody wants to hear of
-- what happens to documents. (Each row that crosses from the
-- driver's thread wakes the caller up.)
-- Bytes where a text or number should be are no JSON: such a row comes back as its name alone.
-- Locking: inside BEGIN IMMEDIATE, so they are still true when `save` writes.
select '[' || coalesce(group_concat(iif(
    max(
        d.id, d.queue, d.line, coalesce(d.due, 0), d.holds_key, coalesce(d.dedupe_key, 0),
        d.state, d.version,
        d.available_at, coalesce(d.lease_id, 0), coalesce(d.lease_expires_at, 0),
        coalesce(d.deleted_at, 0), d.lifecycle
    ) < x'',
    json_array(
        d.key, d.id, d.queue, d.line, d.due, d.holds_key, d.dedupe_key, d.state, d.version,
        d.available_at, d.lease_id, d.lease_expires_at, d.deleted_at, d.lifecycle
    ),
    json_array(d.key, iif(typeof(d.id) = 'text', d.id, null))
), ','), '') || ']' as rows,
    exists (select 1 from kbqueue_endpoints where disabled = 0) as heard
from json_each(?1) as j
cross join kbqueue_documents as d on d.id = j.value
