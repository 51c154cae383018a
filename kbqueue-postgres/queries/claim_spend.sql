-- Notes when the rate tokens of queues are all there again.
-- $1..$2: arrays of queue, instant.
-- Locking: the rows are locked by `claim_limits`.
update kbqueue.queues as q set full_at = n.full_at
from unnest($1::text[], $2::bigint[]) as n (name, full_at)
where q.name = n.name
