-- Writes deliveries that changed.
-- ?1: JSON array of [key, lease_id as it was, state, due_at, lease_id, ended_at, delivery].
-- Result: as many rows changed as were given, or the caller rolls back.
-- Locking: inside BEGIN IMMEDIATE. The lease is compared again here, as in `save`.
with n as materialized (select value as v from json_each(?1))
update kbqueue_deliveries as d
set state = v ->> 2, due_at = v ->> 3, lease_id = v ->> 4, ended_at = v ->> 5, delivery = v -> 6
from n
where d.key = v ->> 0 and d.lease_id is v ->> 1
