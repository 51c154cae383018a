-- Deliveries by name.
-- ?1: JSON array of [queue, endpoint, document, version].
-- Result: key, delivery as JSON, of those that are there.
-- Locking: inside BEGIN IMMEDIATE, so they are still so when `deliveries_save` writes.
with n as materialized (select value as v from json_each(?1))
select d.key, d.delivery
from n
cross join kbqueue_deliveries as d
    on d.queue = v ->> 0 and d.endpoint = v ->> 1 and d.document = v ->> 2 and d.version = v ->> 3
