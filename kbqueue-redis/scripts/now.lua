-- The clock of the server that holds a queue (in a cluster each node has its own), and whether it takes more.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock.
-- Result: now; how many documents are queued, the settings, and the token of the last enqueue that these
--   limited.
-- Atomic: only a look.
local base, now = KEYS[1], ARGV[1]
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local admission = redis.call('HMGET', base .. ':settings', 'token', 'json', 'full_at', 'paused', 'admitted')
local admitted = table.remove(admission)
return { now, tonumber(redis.call('HGET', base .. ':counts', 'queued') or '0'), admission, admitted }
