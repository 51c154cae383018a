-- As `enqueue_limits`, inside a host's transaction: nobody is to wait for that, so others may count meanwhile.
-- Locking: none.
select name, settings from kbqueue.queues
where name = any($1) and max_queued is not null
order by name
