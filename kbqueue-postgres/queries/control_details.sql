-- Notes what was said about a document.
-- $1: id. $2: how its text is cut, as JSON, or null. $3: the caller's data, as JSON.
-- Locking: the document is locked; with its transition.
update kbqueue.details set chunking = $2, metadata = $3 where id = $1
