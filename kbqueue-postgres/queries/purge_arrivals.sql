-- Forgets what came in at the front of lines so long ago that every process that goes by what it knew before
-- has looked again.
-- $1: what was over when the last purge but one or more looked, or null where that is not long enough ago.
-- Result: what is over now.
-- Locking: none: rows are only inserted and, here, deleted.
with gone as (
    delete from kbqueue.arrivals where made_by < $1::xid8
)
select pg_snapshot_xmin(pg_current_snapshot())::text as over
