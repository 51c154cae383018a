-- Keeps what the document says about itself.
-- $1: id. $2: JSON object.
-- Locking: the document is locked, and its lease was compared.
update kbqueue.details set properties = $2 where id = $1
