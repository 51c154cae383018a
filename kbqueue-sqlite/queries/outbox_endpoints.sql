-- Who may want to hear of what happened.
-- ?1: JSON array of queues.
-- Result: endpoint as JSON, of each that is not disabled.
-- Locking: inside BEGIN IMMEDIATE, with the change that they are to hear of.
select e.endpoint
from json_each(?1) as q
cross join kbqueue_endpoints as e on e.queue = q.value
where e.disabled = 0
