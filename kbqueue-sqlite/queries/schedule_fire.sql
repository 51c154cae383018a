-- Takes a tick, where it is due and nobody took it before.
-- ?1: queue. ?2: name. ?3: the revision at which it was found due. ?4: now. ?5: the tick after it.
-- Result: one row changed where it was taken.
-- Locking: inside BEGIN IMMEDIATE, together with what the tick enqueues.
update kbqueue_schedules set next_at = ?5, revision = revision + 1
where queue = ?1 and name = ?2 and revision = ?3 and next_at <= ?4
