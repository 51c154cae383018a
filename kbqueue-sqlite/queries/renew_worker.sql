-- Notes that a worker lives.
-- ?1: id. ?2: name. ?3: JSON array of its queues. ?4: until when it counts as alive.
-- Locking: inside BEGIN IMMEDIATE, with the leases that it renews.
insert into kbqueue_workers (id, name, queues, expires_at) values (?1, ?2, ?3, ?4)
on conflict (id) do update set
    name = excluded.name, queues = excluded.queues, expires_at = excluded.expires_at
