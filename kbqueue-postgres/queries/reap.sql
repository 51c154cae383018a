-- Lifecycles of documents whose leases ran out, oldest expiry first.
-- $1: how many at most. $2: now, in tests.
-- Result: as `load`.
-- Locking: a document that its holder is writing to, or that another reaper has, is skipped: it is
-- alive, or taken care of. The others are compared again once they are locked.
-- Walks over what is processing, which is no more than there are slots: an index by expiry would be
-- written by every renewal and checkpoint.
with instant as materialized (
    select coalesce($2::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
)
select
    d.id, d.queue, d.line, d.due, d.state, d.version, d.available_at, d.lease_id, d.lease_expires_at,
    d.deleted_at, d.lifecycle, i.now
from instant as i
cross join lateral (
    select * from kbqueue.documents as d
    where d.state = 'processing' and d.deleted_at is null and d.lease_expires_at <= i.now
    order by d.lease_expires_at, d.id
    limit $1
    for update skip locked
) as d
