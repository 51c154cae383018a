-- Notes that documents stand for their dedupe keys again.
-- $1: array of ids.
-- Locking: where a key was seen to be free and is taken by now, the unique index refuses it, and the
-- caller starts again.
insert into kbqueue.keys (queue, dedupe_key, document)
select d.queue, e.dedupe_key, e.id
from kbqueue.details as e
join kbqueue.documents as d on d.id = e.id
where e.id = any($1) and e.dedupe_key is not null
order by d.queue, e.dedupe_key
