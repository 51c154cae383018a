-- Notes how a document's text is to be cut from now on.
-- $1: id. $2: JSON.
-- Locking: the document is locked; with the transition that opens the new generation.
update kbqueue.details set chunking = $2 where id = $1
