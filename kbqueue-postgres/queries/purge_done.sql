-- Forgets entries whose rows are gone.
-- $1: array of entries.
-- Locking: the entries are locked.
delete from kbqueue.obsolete where entry = any($1)
