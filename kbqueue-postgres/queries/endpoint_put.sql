-- Makes an endpoint, or replaces it.
-- $1: queue. $2: id. $3: all of it, as JSON. $4: the events it wants. $5: whether it is enabled.
-- Locking: its row.
insert into kbqueue.endpoints (queue, id, endpoint, events, enabled) values ($1, $2, $3, $4, $5)
on conflict (queue, id) do update set
    endpoint = excluded.endpoint, events = excluded.events, enabled = excluded.enabled
