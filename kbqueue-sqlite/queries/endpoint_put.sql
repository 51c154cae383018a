-- Makes an endpoint, or replaces all that is said of it.
-- ?1: queue. ?2: id. ?3: whether it is disabled. ?4: endpoint as JSON.
-- Locking: inside BEGIN IMMEDIATE; what changes documents reads the endpoints inside its own.
insert into kbqueue_endpoints (queue, id, disabled, endpoint) values (?1, ?2, ?3, ?4)
on conflict (queue, id) do update set disabled = excluded.disabled, endpoint = excluded.endpoint
