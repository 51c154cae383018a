-- Lifecycles of documents whose leases ran out, oldest expiry first.
-- ?1: now. ?2: how many at most.
-- Result: a row for each, in the shape of those in `load`.
-- Locking: inside BEGIN IMMEDIATE, so that a renewal comes before this or finds the lease lost.
select json_array(
    d.key, d.id, d.queue, d.line, d.due, d.holds_key, d.dedupe_key, d.state, d.version,
    d.available_at, d.lease_id, d.lease_expires_at, d.deleted_at, d.lifecycle
) as row
from kbqueue_documents as d
where d.lease_expires_at <= ?1
order by d.lease_expires_at, d.id
limit ?2
