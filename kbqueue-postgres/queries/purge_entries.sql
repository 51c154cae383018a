-- What there is to remove.
-- $1: how many entries at most.
-- Result: entry, document, what, oldest first.
-- Locking: entries that another purge is at are skipped.
select entry, document, what from kbqueue.obsolete order by entry limit $1 for update skip locked
