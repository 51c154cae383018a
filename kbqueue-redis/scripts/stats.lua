-- Counts and settings of a queue.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock.
-- Result: 1 where it is paused; documents queued, processing, completed, failed, cancelled; live workers.
-- Atomic: Redis runs one script at a time. It counts nothing but the workers, by their index.
local base, now = KEYS[1], ARGV[1]
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local paused = redis.call('HGET', base .. ':settings', 'paused') == '1' and 1 or 0
local states = { 'queued', 'processing', 'completed', 'failed', 'cancelled' }
local counts = redis.call('HMGET', base .. ':counts', unpack(states))
for i = 1, #states do
    counts[i] = tonumber(counts[i] or '0')
end
return { paused, counts, redis.call('ZCOUNT', base .. ':workers', '(' .. now, '+inf') }
