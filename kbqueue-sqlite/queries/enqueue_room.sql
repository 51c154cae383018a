-- Queues that have limits, and how many documents are queued there.
-- ?1: JSON array of names.
-- Result: name, settings as JSON, queued.
-- Locking: inside BEGIN IMMEDIATE, so the counts are true until the insert.
select q.name, q.settings, q.queued
from json_each(?1) as n
cross join kbqueue_queues as q on q.name = n.value
where q.settings is not null
