-- Lifecycles of documents, for the specification to judge.
-- ?1: JSON array of ids.
-- Result: one row, a JSON array of those that are there, in no order. (Each row that crosses from the
-- driver's thread wakes the caller up.)
-- Locking: inside BEGIN IMMEDIATE, so they are still true when `save` writes.
select json_group_array(json_array(
    d.key, d.id, d.queue, d.line, d.due, d.holds_key, d.dedupe_key, d.state, d.version,
    d.available_at, d.lease_id, d.lease_expires_at, d.deleted_at, d.lifecycle
)) as rows
from json_each(?1) as j
cross join kbqueue_documents as d on d.id = j.value
