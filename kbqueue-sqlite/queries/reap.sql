-- Lifecycles of documents whose leases ran out, oldest expiry first.
-- ?1: now. ?2: how many at most.
-- Result: a row for each, in the shape of those in `load`.
-- Bytes where a text or number should be are no JSON: such a row comes back as its name alone.
-- Locking: inside BEGIN IMMEDIATE, so that a renewal comes before this or finds the lease lost.
select iif(
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
) as row
from kbqueue_documents as d
where d.lease_expires_at <= ?1
order by d.lease_expires_at, d.id
limit ?2
