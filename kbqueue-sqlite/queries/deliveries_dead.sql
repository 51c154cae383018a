-- The dead deliveries of an endpoint.
-- ?1: queue. ?2: endpoint.
-- Result: key, delivery as JSON.
-- Locking: inside BEGIN IMMEDIATE, so they are still so when `deliveries_save` writes.
select key, delivery from kbqueue_deliveries
where queue = ?1 and endpoint = ?2 and state = 'dead'
