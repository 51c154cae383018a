-- Documents that answer for new ones: those of the same ids, else those that hold the same keys.
-- $1..$3: arrays of id, queue, dedupe_key.
-- Result: the place in the arrays (from 1), id, state; no row where nothing stands for it.
-- Locking: none. It is a new statement, so it sees whatever an insert waited for.
select n.place, found.id, found.state
from unnest($1::uuid[], $2::text[], $3::bytea[]) with ordinality as n (id, queue, dedupe_key, place)
cross join lateral (
    select * from (
        (select d.id, d.state from kbqueue.documents as d where d.id = n.id limit 1)
        union all
        (
            select k.document as id, (
                select d.state from kbqueue.documents as d where d.id = k.document limit 1
            ) as state
            from kbqueue.keys as k
            where k.queue = n.queue and k.dedupe_key = n.dedupe_key
            limit 1
        )
    ) as either
    limit 1
) as found
