-- The newest migration that ran here.
-- Result: one number, 0 for none; the table has to be there.
select coalesce(max(version), 0) from kbqueue.migrations
