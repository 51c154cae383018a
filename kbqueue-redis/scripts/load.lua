-- Documents, for the specification to judge or a reader to see.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock; 1 to read the fixed parts too;
--   at most 1000 ids.
-- Result: now; for each id its life, history and, if asked for, fixed part (nil where there is none).
-- Atomic: Redis runs one script at a time, so the parts of a document belong together.
local base, now = KEYS[1], ARGV[1]
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local answer = {
    now,
    redis.call('HMGET', base .. ':lives', unpack(ARGV, 3)),
    redis.call('HMGET', base .. ':histories', unpack(ARGV, 3)),
}
if ARGV[2] == '1' then
    answer[4] = redis.call('HMGET', base .. ':documents', unpack(ARGV, 3))
else
    answer[4] = {}
end
return answer
