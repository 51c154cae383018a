-- Gives a document another place in its line.
-- $1: id. $2: priority.
-- Locking: the document is locked; `save` follows, and tells claims of the new place.
update kbqueue.documents set priority = $2 where id = $1
