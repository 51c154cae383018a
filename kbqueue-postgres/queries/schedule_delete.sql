-- Removes a schedule.
-- $1: queue. $2: name.
-- Locking: its row.
delete from kbqueue.schedules where queue = $1 and name = $2
