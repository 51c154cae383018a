-- Deliveries, to be settled.
-- $1..$4: arrays of queue, endpoint, document, version. $5: now, in tests.
-- Result: one row for each that is there, and now; it is the time after all were locked.
-- Locking: rows are locked in their order.
with locked as materialized (
    select d.*
    from (
        select distinct * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[])
            as n (queue, endpoint, document, version)
        order by queue, endpoint, document, version
    ) as n
    cross join lateral (
        select * from kbqueue.deliveries as d
        where d.queue = n.queue and d.endpoint = n.endpoint and d.document = n.document
          and d.version = n.version
        for update
    ) as d
)
select d.*, coalesce($5::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
from locked as d
