-- What can be claimed for endpoints.
-- $1..$2: arrays of queue, endpoint. $3: how many of each at most, $4: how many under lease at most.
-- $5: now, in tests.
-- Result: a row for each delivery that can be claimed, and one for each endpoint without; with the place of the
--     endpoint (from 1), how many of it are under lease, when the next one falls due, and now.
-- Locking: none; the endpoints are locked, and `deliveries_save` compares.
-- What counts is the first pending delivery of each document. Those behind it may be due: they are few, as a
-- document has to be tried again to have a second one.
with instant as materialized (
    select coalesce($5::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
),
known as materialized (
    select e.*, i.now, (
        select count(*) from kbqueue.deliveries as d
        where d.queue = e.queue and d.endpoint = e.endpoint and d.lease_id is not null and d.due_at > i.now
          and (
              select true from kbqueue.deliveries as b
              where b.queue = d.queue and b.endpoint = d.endpoint and b.document = d.document
                and b.version < d.version and b.state = 'pending'
              limit 1
          ) is null
    ) as leased, least(
        (
            select d.due_at from kbqueue.deliveries as d
            where d.queue = e.queue and d.endpoint = e.endpoint and d.state = 'pending'
              and d.lease_id is null and d.due_at > i.now
              and (
                  select true from kbqueue.deliveries as b
                  where b.queue = d.queue and b.endpoint = d.endpoint and b.document = d.document
                    and b.version < d.version and b.state = 'pending'
                  limit 1
              ) is null
            order by d.due_at, d.document limit 1
        ),
        (
            select d.due_at from kbqueue.deliveries as d
            where d.queue = e.queue and d.endpoint = e.endpoint and d.lease_id is not null and d.due_at > i.now
              and (
                  select true from kbqueue.deliveries as b
                  where b.queue = d.queue and b.endpoint = d.endpoint and b.document = d.document
                    and b.version < d.version and b.state = 'pending'
                  limit 1
              ) is null
            order by d.due_at, d.document limit 1
        )
    ) as next_due
    from unnest($1::text[], $2::uuid[]) with ordinality as e (queue, endpoint, place)
    cross join instant as i
)
select
    k.place, k.leased, k.now, k.next_due, d.*
from known as k
left join lateral (
    select * from (
        (
            select * from kbqueue.deliveries as d
            where d.queue = k.queue and d.endpoint = k.endpoint and d.state = 'pending'
              and d.lease_id is null and d.due_at <= k.now
              and (
                  select true from kbqueue.deliveries as b
                  where b.queue = d.queue and b.endpoint = d.endpoint and b.document = d.document
                    and b.version < d.version and b.state = 'pending'
                  limit 1
              ) is null
            order by d.due_at, d.document
            limit greatest(least($3, $4 - k.leased), 0)
        )
        union all
        (
            select * from kbqueue.deliveries as d
            where d.queue = k.queue and d.endpoint = k.endpoint and d.lease_id is not null
              and d.due_at <= k.now
              and (
                  select true from kbqueue.deliveries as b
                  where b.queue = d.queue and b.endpoint = d.endpoint and b.document = d.document
                    and b.version < d.version and b.state = 'pending'
                  limit 1
              ) is null
            order by d.due_at, d.document
            limit greatest(least($3, $4 - k.leased), 0)
        )
    ) as d
    order by d.due_at, d.document
    limit greatest(least($3, $4 - k.leased), 0)
) as d on true
