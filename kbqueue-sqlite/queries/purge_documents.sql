-- Removes deleted documents whose outputs are gone.
-- ?1: JSON array of their keys.
-- Result: as many rows changed as were removed.
-- Locking: inside BEGIN IMMEDIATE, after their outputs.
delete from kbqueue_documents where key in (select value from json_each(?1))
