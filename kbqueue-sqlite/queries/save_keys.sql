-- Notes which documents stand for their dedupe keys from now on, and which no longer do.
-- ?1: JSON array of [key of the document, 1 or 0].
-- Locking: inside BEGIN IMMEDIATE; where a key is taken, it was seen to be free in this transaction.
with n as materialized (select value as v from json_each(?1))
update kbqueue_documents as d set holds_key = n.v ->> 1 from n where d.key = n.v ->> 0
