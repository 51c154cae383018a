-- Writes deliveries.
-- $1..$5: arrays of queue, endpoint, document, version, and the lease_id that they had. $6..$11: arrays of state,
--     attempts, due_at, lease_id, error, ended_at.
-- Result: none; an error (22012) where one was not as it was said to be, so that nothing is written.
-- Locking: what was not locked before is compared: lease_id is the fence.
with written as (
    update kbqueue.deliveries as d
    set state = n.state, attempts = n.attempts, due_at = n.due_at, lease_id = n.lease_id, error = n.error,
        ended_at = n.ended_at
    from unnest(
        $1::text[], $2::uuid[], $3::uuid[], $4::bigint[], $5::uuid[], $6::text[], $7::bigint[],
        $8::bigint[], $9::uuid[], $10::text[], $11::bigint[]
    ) as n (
        queue, endpoint, document, version, old_lease_id, state, attempts, due_at, lease_id, error, ended_at
    )
    where d.queue = n.queue and d.endpoint = n.endpoint and d.document = n.document
      and d.version = n.version and d.state = 'pending' and d.lease_id is not distinct from n.old_lease_id
    returning 1
)
select 1 / (case when count(*) = cardinality($1) then 1 else 0 end) as written from written
