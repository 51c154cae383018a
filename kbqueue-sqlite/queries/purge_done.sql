-- Forgets entries whose rows are gone.
-- ?1: JSON array of entries.
-- Locking: inside BEGIN IMMEDIATE, with the rows.
delete from kbqueue_obsolete where entry in (select value from json_each(?1))
