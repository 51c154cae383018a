-- Lifecycles of documents, for the specification to judge.
-- $1: array of ids. $2: now, in tests.
-- Result: one row for each that is there, in no order, and now; it is the time after all were locked.
-- Locking: rows are locked in the order of their ids, so that two batches do not wait for each other.
-- They are still true when `save` writes.
with locked as materialized (
    select d.* from kbqueue.documents as d where d.id = any($1) order by d.id for update
)
select
    d.id, d.queue, d.line, d.due, d.state, d.version, d.available_at, d.lease_id, d.lease_expires_at,
    d.deleted_at, d.lifecycle,
    coalesce($2::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
from locked as d
