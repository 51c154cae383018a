-- Counts and settings of a queue.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock.
-- Result: the settings; documents queued, processing, completed, failed, cancelled; live workers.
-- Atomic: Redis runs one script at a time. It counts nothing but the workers, by their index.
local base, now = KEYS[1], ARGV[1]
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local settings = redis.call('HMGET', base .. ':settings', 'token', 'json', 'full_at', 'paused')
local states = { 'queued', 'processing', 'completed', 'failed', 'cancelled' }
local counts = redis.call('HMGET', base .. ':counts', unpack(states))
for i = 1, #states do
    counts[i] = tonumber(counts[i] or '0')
end
return { settings, counts, redis.call('ZCOUNT', base .. ':workers', '(' .. now, '+inf') }
