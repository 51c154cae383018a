-- Makes this transaction the only one that folds.
-- Result: whether it is.
-- Locking: nobody waits; who comes second leaves it to the first.
select pg_try_advisory_xact_lock(hashtextextended('fold of kbqueue.totals', 0))
