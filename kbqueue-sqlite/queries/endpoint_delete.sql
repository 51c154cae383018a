-- Removes an endpoint.
-- ?1: queue. ?2: id.
-- Result: as many rows changed as were there.
-- Locking: inside BEGIN IMMEDIATE, together with its deliveries.
delete from kbqueue_endpoints where queue = ?1 and id = ?2
