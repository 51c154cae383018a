-- Documents whose leases ran out, oldest expiry first.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock; how many at most.
-- Result: now; ids, lives and histories of these documents.
-- Atomic: only a look; `commit` compares again, so that a renewal comes before it or finds the lease lost.
local base, now = KEYS[1], ARGV[1]
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local ids = redis.call('ZRANGEBYSCORE', base .. ':leases', '-inf', now, 'LIMIT', 0, ARGV[2])
local lives, histories = {}, {}
for first = 1, #ids, 1000 do
    local last = math.min(first + 999, #ids)
    local some = redis.call('HMGET', base .. ':lives', unpack(ids, first, last))
    local theirs = redis.call('HMGET', base .. ':histories', unpack(ids, first, last))
    for i = first, last do
        lives[i], histories[i] = some[i - first + 1], theirs[i - first + 1]
    end
end
return { now, ids, lives, histories }
