-- Removes a schedule.
-- ?1: queue. ?2: name.
-- Result: as many rows changed as were there.
-- Locking: inside BEGIN IMMEDIATE.
delete from kbqueue_schedules where queue = ?1 and name = ?2
