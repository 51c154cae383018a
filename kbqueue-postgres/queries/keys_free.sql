-- Notes that documents no longer stand for their dedupe keys.
-- $1: array of ids.
-- Locking: the documents are locked, and nobody but the holder of a key gives it up.
delete from kbqueue.keys as k
using kbqueue.details as e
where e.id = any($1) and k.queue = (select d.queue from kbqueue.documents as d where d.id = e.id)
  and k.dedupe_key = e.dedupe_key and k.document = e.id
