-- Removes the deliveries of an endpoint.
-- ?1: queue. ?2: id of the endpoint.
-- Locking: inside BEGIN IMMEDIATE, together with the endpoint.
delete from kbqueue_deliveries where queue = ?1 and endpoint = ?2
