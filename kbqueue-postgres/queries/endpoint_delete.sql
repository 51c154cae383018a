-- Removes an endpoint.
-- $1: queue. $2: id.
-- Locking: its row. It waits for those that write something down for it.
delete from kbqueue.endpoints where queue = $1 and id = $2
