-- Writes new deliveries down.
-- ?1: JSON array of [queue, endpoint, document, version, due_at, delivery].
-- Locking: inside BEGIN IMMEDIATE, with the change that they tell of. A version is written once, and is the
-- greatest of its document: it is the head where nothing else is pending.
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
