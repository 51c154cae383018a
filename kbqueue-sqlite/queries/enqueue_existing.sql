-- Documents that answer for new ones: those of the same ids, and those that hold the same keys.
-- ?1: JSON array of ids. ?2: JSON array of [queue, key].
-- Result: id, state, and queue and dedupe_key for the second kind (null for the first).
-- Locking: inside BEGIN IMMEDIATE, so nobody takes a key between this look and the insert.
with wanted as materialized (select value as v from json_each(?2))
select d.id, d.state, null as queue, null as dedupe_key
from json_each(?1) as j
cross join kbqueue_documents as d on d.id = j.value
union all
select d.id, d.state, d.queue, d.dedupe_key
from wanted
cross join kbqueue_documents as d
    on d.queue = wanted.v ->> 0 and d.dedupe_key = wanted.v ->> 1 and d.holds_key = 1
