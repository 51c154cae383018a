-- The clock of the server that holds a queue: in a cluster each node has its own.
-- KEYS[1]: the queue's base.
-- Result: now in epoch microseconds.
local time = redis.call('TIME')
return string.format('%.0f', time[1] * 1000000 + time[2])
