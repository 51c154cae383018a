-- What may answer for new documents: those of the same ids, and those that stand for the same keys.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock; n; n ids; n dedupe keys ('' for
--   none, which no document stands for), or nothing where no document has one.
-- Result: now, how many documents are queued, the settings, and the token of the last enqueue that these
--   limited; n lives by id, n ids by key, n lives of these (nil where there is none; the last two are
--   empty without keys).
-- Atomic: only a look; `commit` compares again.
local base, now, n = KEYS[1], ARGV[1], tonumber(ARGV[2])
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local lives, holders, theirs = {}, {}, {}
for first = 1, n, 1000 do
    local last = math.min(first + 999, n)
    local by_id = redis.call('HMGET', base .. ':lives', unpack(ARGV, 2 + first, 2 + last))
    for i = 1, last - first + 1 do
        lives[first + i - 1] = by_id[i]
    end
    if #ARGV > 2 + n then
        local by_key = redis.call('HMGET', base .. ':keys', unpack(ARGV, 2 + n + first, 2 + n + last))
        local ids = {}
        for i = 1, last - first + 1 do
            ids[i] = by_key[i] or ''
        end
        local found = redis.call('HMGET', base .. ':lives', unpack(ids))
        for i = 1, last - first + 1 do
            holders[first + i - 1] = by_key[i]
            theirs[first + i - 1] = found[i]
        end
    end
end
local admission = redis.call('HMGET', base .. ':settings', 'token', 'json', 'full_at', 'paused', 'admitted')
local admitted = table.remove(admission)
local queued = tonumber(redis.call('HGET', base .. ':counts', 'queued') or '0')
return { now, queued, admission, admitted, lives, holders, theirs }
