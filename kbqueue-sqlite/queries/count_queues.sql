-- Moves the counts of queues, and makes queues that are not there.
-- ?2: JSON array of [name, [queued, processing, completed, failed, cancelled]], each a difference.
-- Locking: inside BEGIN IMMEDIATE, together with the documents counted, so counts never drift.
with n as materialized (select value as v from json_each(?2))
insert into kbqueue_queues (name, queued, processing, completed, failed, cancelled)
select
    v ->> 0,
    v ->> '$[1][0]', v ->> '$[1][1]', v ->> '$[1][2]', v ->> '$[1][3]', v ->> '$[1][4]'
from n where true
on conflict (name) do update set
    queued = queued + excluded.queued,
    processing = processing + excluded.processing,
    completed = completed + excluded.completed,
    failed = failed + excluded.failed,
    cancelled = cancelled + excluded.cancelled;
