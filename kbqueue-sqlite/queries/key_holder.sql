-- Who stands for the dedupe key of a document.
-- ?1: queue. ?2: dedupe key.
-- Result: one id, or none.
-- Locking: inside BEGIN IMMEDIATE, so the answer holds until the commit.
select id from kbqueue_documents where queue = ?1 and dedupe_key = ?2 and holds_key = 1
