-- Changes a queue's settings, and makes the queue where it is not there.
-- ?1: name. ?2: paused. ?3: settings, JSON, or null without limits. ?4: when its rate tokens are all there.
-- Locking: inside BEGIN IMMEDIATE; a claim reads the settings inside its own.
insert into kbqueue_queues (name, paused, settings, full_at) values (?1, ?2, ?3, ?4)
on conflict (name) do update set
    paused = excluded.paused, settings = excluded.settings, full_at = excluded.full_at
