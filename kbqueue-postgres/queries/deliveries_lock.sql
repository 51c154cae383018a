-- The enabled endpoints of queues, for a claim.
-- $1: array of queues.
-- Locking: their rows, in order: claims of an endpoint come one after the other, so that it has no more under
-- lease than it should. What happens to documents is written down meanwhile.
select endpoint from kbqueue.endpoints
where queue = any($1) and enabled
order by queue, id
for no key update
