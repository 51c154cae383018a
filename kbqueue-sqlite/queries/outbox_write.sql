-- Writes new deliveries down.
-- ?1: JSON array of [queue, endpoint, document, version, due_at, delivery].
-- Locking: inside BEGIN IMMEDIATE, with the change that they tell of. What is written is the head where nothing
-- else of the document is pending. The id of a document that was purged may have been used again, and then what
-- is told of it is told anew.
with n as materialized (select value as v from json_each(?1))
insert into kbqueue_deliveries (queue, endpoint, document, version, due_at, delivery, state, head)
select
    v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, v -> 5, 'pending',
    not exists (
        select 1 from kbqueue_deliveries as d
        where d.queue = v ->> 0 and d.endpoint = v ->> 1 and d.document = v ->> 2
          and d.state = 'pending'
    )
from n
where true
on conflict (queue, endpoint, document, version) do update set
    due_at = excluded.due_at, delivery = excluded.delivery, state = excluded.state, lease_id = null, ended_at = null,
    -- One that is pending still stands among those that kept the new one from being the head.
    head = case when kbqueue_deliveries.state = 'pending' then kbqueue_deliveries.head else excluded.head end
