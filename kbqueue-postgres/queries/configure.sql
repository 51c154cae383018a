-- Changes a queue's settings, and makes the queue where it is not there.
-- $1: name. $2: paused.
-- Locking: the queue's row. A claim that has read the old settings may still be under way.
insert into kbqueue.queues (name, paused) values ($1, $2)
on conflict (name) do update set paused = excluded.paused
