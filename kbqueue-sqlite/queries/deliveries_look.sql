-- What each endpoint has for a claim.
-- ?1: JSON array of queues. ?2: now. ?3: how many of each at most.
-- Result: queue, id, endpoint as JSON; how many heads are under lease; when the next head falls due that is
-- not yet, or null; the first due ones, JSON, an array of [key, delivery].
-- Locking: inside BEGIN IMMEDIATE, so they are still claimable when `deliveries_save` writes.
select e.queue, e.id, e.endpoint,
    (
        select count(*) from kbqueue_deliveries as d indexed by kbqueue_deliveries_leased
        where d.queue = e.queue and d.endpoint = e.id and d.due_at > ?2
          and d.lease_id is not null and d.head = 1
    ) as leased,
    (
        select min(d.due_at) from kbqueue_deliveries as d indexed by kbqueue_deliveries_due
        where d.queue = e.queue and d.endpoint = e.id and d.due_at > ?2 and d.head = 1
    ) as next_due,
    (
        select json_group_array(json_array(h.key, h.delivery)) from (
            select d.key, d.delivery from kbqueue_deliveries as d indexed by kbqueue_deliveries_due
            where d.queue = e.queue and d.endpoint = e.id and d.due_at <= ?2 and d.head = 1
            order by d.due_at, d.document
            limit ?3
        ) as h
    ) as front
from json_each(?1) as q
cross join kbqueue_endpoints as e on e.queue = q.value
where e.disabled = 0
