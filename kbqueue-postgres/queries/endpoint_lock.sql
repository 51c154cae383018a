-- An endpoint, to be changed.
-- $1: queue. $2: id.
-- Locking: its row; what happens to documents is written down for it meanwhile.
select endpoint from kbqueue.endpoints where queue = $1 and id = $2 for no key update
