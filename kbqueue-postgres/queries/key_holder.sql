-- Who stands for the dedupe key of a document.
-- $1: id of the document.
-- Result: one id, or none.
-- Locking: none; `keys_take` finds out if that changes.
select k.document
from kbqueue.documents as d
join kbqueue.details as e on e.id = d.id
join kbqueue.keys as k on k.queue = d.queue and k.dedupe_key = e.dedupe_key
where d.id = $1
