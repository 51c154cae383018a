-- Moves the counts of queues, and tells other processes what changed.
-- $1..$6: arrays of queue, queued, processing, completed, failed, cancelled, each a difference.
-- $7: channel. $8: what to tell, or null.
-- Locking: none, rows are inserted only. The message is sent by the commit.
with counted as (
    insert into kbqueue.deltas (queue, queued, processing, completed, failed, cancelled)
    select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
)
select pg_notify($7, $8) where $8::text is not null
