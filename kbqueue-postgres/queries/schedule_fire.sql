-- Sets the next tick of a schedule whose tick is due.
-- $1: queue. $2: name. $3: the revision at which it was found due. $4: the tick after this one. $5: now, in tests.
-- Result: as many rows changed as may be enqueued for.
-- Locking: its row; who waits for it compares the revision again, and finds another one.
update kbqueue.schedules set next_at = $4, revision = revision + 1
where queue = $1 and name = $2 and revision = $3
  and next_at <= coalesce($5::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint)
