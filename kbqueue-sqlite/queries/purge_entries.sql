-- What there is to remove.
-- ?1: how many entries at most.
-- Result: entry, document, what, oldest first.
-- Locking: inside BEGIN IMMEDIATE.
select entry, document, what from kbqueue_obsolete order by entry limit ?1
