-- Removes deleted documents whose outputs are gone.
-- $1: array of ids.
-- Result: as many rows changed as were removed.
-- Locking: their entries are locked; a deleted document never changes again.
with details as (
    delete from kbqueue.details where id = any($1)
)
delete from kbqueue.documents where id = any($1)
