-- Changes a queue's settings, and makes the queue where it is not there.
-- ?1: name. ?2: paused.
-- Locking: inside BEGIN IMMEDIATE; a claim reads the settings inside its own.
insert into kbqueue_queues (name, paused) values (?1, ?2)
on conflict (name) do update set paused = excluded.paused
