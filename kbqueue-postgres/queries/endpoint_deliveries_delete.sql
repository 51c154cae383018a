-- Removes what was to be delivered to an endpoint.
-- $1: queue. $2: id.
-- Locking: none can be added: the endpoint was removed in this transaction.
delete from kbqueue.deliveries where queue = $1 and endpoint = $2
