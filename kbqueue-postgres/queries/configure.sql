-- Changes a queue's settings.
-- $1: name. $2: paused. $3: all settings, as JSON. $4: whether they limit claims. $5: max_queued or null.
-- $6: full_at or null.
-- Locking: the row is locked by `configure_lock`. A claim of a queue that had no limits may still be under way.
update kbqueue.queues set paused = $2, settings = $3, limited = $4, max_queued = $5, full_at = $6
where name = $1
