-- Says which deliveries are the first pending ones, after some became pending or no longer are.
-- ?1: JSON array of [queue, endpoint, document], whose deliveries changed.
-- Locking: inside BEGIN IMMEDIATE, together with the change.
with n as materialized (select value as v from json_each(?1)),
first(queue, endpoint, document, version) as materialized (
    select v ->> 0, v ->> 1, v ->> 2, (
        select min(version) from kbqueue_deliveries as d
        where d.queue = v ->> 0 and d.endpoint = v ->> 1 and d.document = v ->> 2
          and d.state = 'pending'
    )
    from n
)
update kbqueue_deliveries as d set head = (d.version is f.version)
from first as f
where d.queue = f.queue and d.endpoint = f.endpoint and d.document = f.document
  and d.head <> (d.version is f.version)
