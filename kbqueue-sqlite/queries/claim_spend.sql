-- Notes that rate tokens were spent.
-- ?1: JSON array of [name of a queue, when its tokens are all there again].
-- Locking: inside BEGIN IMMEDIATE, together with the claims that spent them.
with n as materialized (select value as v from json_each(?1))
update kbqueue_queues as q set full_at = n.v ->> 1 from n where q.name = n.v ->> 0
